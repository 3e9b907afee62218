package vm

import (
	"context"
	"fmt"
	"slices"

	"banger"
	"banger/internal/network"
)

// maxPublish bounds what one VM publishes: each is an argument of a process.
const maxPublish = 64

// checkPublish holds the ports that s publishes against each other and against
// what this host allows in its network mode.
func (m *Manager) checkPublish(s banger.Spec) error {
	ports := s.Publish
	if len(ports) == 0 {
		return nil
	}
	if len(ports) > maxPublish {
		return invalid("%d ports to publish: at most %d", len(ports), maxPublish)
	}
	type key struct {
		proto banger.Proto
		port  uint16
	}
	seen := map[key]bool{}
	for _, p := range ports {
		if err := p.Valid(); err != nil {
			return err
		}
		k := key{p.Proto, p.Host.Port()}
		if seen[k] { // on another address, too: passt has one entry per port
			return invalid("port %d of the host is published twice", k.port).
				WithRemedy("publish it once; as 0.0.0.0:%d:%d on all of the host's addresses", k.port, p.Guest)
		}
		seen[k] = true
	}
	for _, n := range m.c.Nets {
		if n.Mode() != s.Network && s.Network != banger.NetworkAuto {
			continue
		}
		if pub, ok := n.(network.Publisher); ok {
			return pub.CheckPublish(ports, s.Isolated)
		}
	}
	return invalid("network %s publishes no ports", s.Network).WithRemedy("use --network user, or reach the VM at its address")
}

// claim runs store with the certainty that no other VM of the installation
// publishes one of these ports, whether it runs or not.
func (m *Manager) claim(ctx context.Context, id banger.VMID, ports []banger.Publish, store func() error) error {
	m.claims.Lock()
	defer m.claims.Unlock()
	if len(ports) == 0 {
		return store() // which may give up some, and take them back if it fails
	}
	recs, err := m.c.Store.VMs(ctx)
	if err != nil {
		return fmt.Errorf("look for who publishes what: %w", err)
	}
	for _, r := range recs {
		if r.ID == id {
			continue
		}
		for _, theirs := range r.Spec.Publish {
			for _, p := range ports {
				if p.Overlaps(theirs) {
					return banger.Errorf(banger.Exists, "publish %s: %s publishes %s", p, r.Spec.Name, theirs).
						WithRemedy("choose another port, or take it away: banger vm set %s --unpublish %s", r.Spec.Name, banger.HostPort{Port: theirs.Host.Port(), Proto: theirs.Proto})
				}
			}
		}
	}
	return store()
}

// setsPorts reports whether c says anything about ports.
func (c Change) setsPorts() bool {
	return c.Publish != nil || c.AddPublish != nil || c.Unpublish != nil
}

// ports are those that c makes of a VM's.
func (c Change) ports(of banger.Spec) ([]banger.Publish, error) {
	ports := slices.Clone(orElse(c.Publish, of.Publish))
	for _, gone := range orElse(c.Unpublish, nil) {
		i := slices.IndexFunc(ports, func(p banger.Publish) bool { return p.Host.Port() == gone.Port && p.Proto == gone.Proto })
		if i < 0 {
			return of.Publish, banger.Errorf(banger.NotFound, "%s does not publish port %s of the host", of.Name, gone).
				WithRemedy("see which it does: banger vm ports %s", of.Name)
		}
		ports = slices.Delete(ports, i, i+1)
	}
	return append(ports, orElse(c.AddPublish, nil)...), nil
}

// openPorts are those of v's ports that lead to it, in the order in which it has them.
func (m *Manager) openPorts(v banger.VM) (open []banger.OpenPort) {
	a, err := m.attacher(v.Spec)
	if err != nil || v.State != banger.StateRunning {
		return nil
	}
	live, ok := a.(network.Republisher)
	if !ok {
		if v.Problem == nil { // else its network may be gone
			for _, p := range v.Publish {
				open = append(open, banger.OpenPort{Publish: p, By: v.Stack})
			}
		}
		return open
	}
	all := live.Open(v.ID)
	for _, p := range v.Publish {
		if i := slices.IndexFunc(all, func(o banger.OpenPort) bool { return o.Publish == p }); i >= 0 {
			open = append(open, all[i])
		}
	}
	return open
}

// portNotes say why ports of the VM are not led as well as they could be.
func (s *subject) portNotes() (notes []string) {
	a, err := s.attacher()
	live, ok := a.(network.Republisher)
	if err != nil || !ok {
		return nil
	}
	for _, p := range live.Open(s.rec.ID) {
		if p.Note != "" && !slices.Contains(notes, p.Note) {
			notes = append(notes, p.Note)
		}
	}
	return notes
}

// needsRestart refuses a change of what a VMM, or its passt, was started with.
func (s *subject) needsRestart(c Change) error {
	if s.rec.Run == nil {
		return nil
	}
	name := s.rec.Spec.Name
	a, err := s.attacher()
	if _, live := a.(network.Republisher); err == nil && !live && c.setsPorts() {
		return banger.Errorf(banger.WrongState, "%s is running, and in network mode %s its ports change only while it is stopped", name, a.Mode()).
			WithRemedy("banger stop %s, then the same again, then banger start %s; with --network routed they change at once", name, name)
	}
	if c.needsStop(s.rec.Spec.Network) {
		return banger.Errorf(banger.WrongState, "%s is running", name).WithRemedy("banger stop %s", name)
	}
	return nil
}
