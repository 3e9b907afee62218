package routed

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"banger"
	"banger/internal/network"
	"banger/internal/network/routed/proxy"
)

// ports is what the Attacher knows of published ports. bangerd has the socket of each.
// What comes to one of the loopback it passes on itself; of the others the kernel leads
// to the VM what comes in by an uplink, and bangerd the rest.
type ports struct {
	led    map[banger.VMID]map[banger.Publish]*proxy.Proxy
	kernel map[banger.Publish]bool // led by the kernel, as of the last Set
	why    error                   // why others than those of the loopback are not; nil: they are
}

func noPorts() ports { return ports{led: map[banger.VMID]map[banger.Publish]*proxy.Proxy{}} }

// CheckPublish implements network.Publisher.
func (a *Attacher) CheckPublish(ports []banger.Publish, _ bool) error {
	return network.CheckPorts(ports)
}

// publish has the VM's ports, and none besides. Where one cannot be had it has what it
// had before; with anyhow, all that can be had.
func (a *Attacher) publish(n network.NIC, anyhow bool) error {
	defer a.show()
	have := a.led[n.VM]
	if have == nil {
		have = map[banger.Publish]*proxy.Proxy{}
		a.led[n.VM] = have
	}
	was := slices.Collect(maps.Keys(have))
	for _, p := range was {
		if !slices.Contains(n.Publish, p) {
			have[p].Close()
			delete(have, p)
		}
	}
	for _, p := range n.Publish {
		if have[p] != nil {
			continue
		}
		led, err := proxy.Listen(p, n.Addr, a.c.Log.With("vm", n.VM))
		switch {
		case err == nil:
			have[p] = led
		case anyhow:
			a.c.Log.Warn("a published port is not led to its VM", "vm", n.VM, "port", p, "err", err)
		default:
			n.Publish = was
			_ = a.publish(n, true)
			return err
		}
	}
	return nil
}

// unpublish frees the VM's ports.
func (a *Attacher) unpublish(id banger.VMID) {
	defer a.show()
	for _, p := range a.led[id] {
		p.Close()
	}
	delete(a.led, id)
}

// Republish implements network.Republisher. Where banger-root has nothing to do with
// it, it is not asked.
func (a *Attacher) Republish(ctx context.Context, n network.NIC) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	was := slices.Collect(maps.Keys(a.led[n.VM]))
	if err := a.publish(n, false); err != nil {
		return err
	}
	changed := func(of, than []banger.Publish) bool {
		return slices.ContainsFunc(of, func(p banger.Publish) bool { return fromOutside(p) && !slices.Contains(than, p) })
	}
	if !changed(was, n.Publish) && !changed(n.Publish, was) {
		return nil
	}
	err := a.attach(ctx, n)
	if err != nil {
		n.Publish = was
		_ = a.publish(n, true)
	}
	return err
}

// fromOutside reports whether others than the host reach p.
func fromOutside(p banger.Publish) bool { return !p.Host.Addr().IsLoopback() }

// outside are the ports that the kernel is to lead to these taps, always in the same
// order. More than it is asked for at a time bangerd leads alone.
func (a *Attacher) outside(taps []network.Tap) (all []network.Port, which []banger.Publish) {
	for _, t := range taps {
		led := slices.SortedFunc(maps.Keys(a.led[t.VM]), func(p, q banger.Publish) int {
			return cmp.Or(p.Host.Compare(q.Host), cmp.Compare(p.Proto, q.Proto))
		})
		for _, p := range led {
			if fromOutside(p) && len(all) < network.MaxPorts {
				all = append(all, network.Port{VM: t.VM, Guest: p.Guest, Socket: a.led[t.VM][p].Socket()})
				which = append(which, p)
			}
		}
	}
	return all, which
}

// setWithPorts asks for a network with the published ports of its taps, or, where just
// they cannot be had, without: then bangerd leads them.
func (a *Attacher) setWithPorts(ctx context.Context, r Root, c network.Config) error {
	defer a.show()
	var which []banger.Publish
	c.Ports, which = a.outside(c.Taps)
	a.kernel, a.why = map[banger.Publish]bool{}, nil
	err := r.Set(ctx, c)
	if len(which) == 0 {
		return err
	}
	if code := banger.CodeOf(err); code == banger.HostUnready || code == banger.Invalid {
		a.why = err
		c.Ports = nil
		if err = r.Set(ctx, c); err == nil {
			a.c.Log.Warn("published ports are led by bangerd alone", "err", a.why)
		}
		return err
	}
	if a.why = r.NAT(); err == nil && a.why == nil {
		for _, p := range which {
			a.kernel[p] = true
		}
	}
	return err
}

// show keeps for Open what it tells, which waits for nothing.
func (a *Attacher) show() {
	all := map[banger.VMID][]banger.OpenPort{}
	for id, led := range a.led {
		for p := range led {
			open := banger.OpenPort{Publish: p, By: "bangerd"}
			switch {
			case !fromOutside(p):
			case a.kernel[p]:
				open.By = "kernel"
			case a.why != nil:
				e := banger.AsError(a.why)
				open.Note = e.Message
				if e.Remedy != "" {
					open.Note += "; " + e.Remedy
				}
			}
			all[id] = append(all[id], open)
		}
	}
	a.shown.Store(&all)
}

// Open implements network.Republisher.
func (a *Attacher) Open(id banger.VMID) []banger.OpenPort {
	if all := a.shown.Load(); all != nil {
		return (*all)[id]
	}
	return nil
}
