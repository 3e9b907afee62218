package vm

import (
	"context"
	"fmt"

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
						WithRemedy("choose another port, or take it away: banger vm set %s --publish none", r.Spec.Name)
				}
			}
		}
	}
	return store()
}
