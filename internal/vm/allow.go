package vm

import (
	"context"
	"slices"

	"banger"
	"banger/internal/network"
)

// checkAllow holds the ports of the host that s is let to against each other, and
// against its network mode: mode user opens all that it opens or nothing.
func checkAllow(s banger.Spec) error {
	if len(s.AllowHost) > network.MaxAllow {
		return invalid("%d ports of the host for one VM: at most %d", len(s.AllowHost), network.MaxAllow)
	}
	for i, p := range s.AllowHost {
		if err := p.Valid(); err != nil {
			return err
		}
		if slices.Contains(s.AllowHost[:i], p) {
			return invalid("port %s of the host comes twice", p).WithRemedy("name it once")
		}
	}
	if len(s.AllowHost) > 0 && s.Network == banger.NetworkUser {
		return invalid("a VM in network mode user cannot be let to single ports of the host").
			WithRemedy("use --network routed with --allow-host")
	}
	return nil
}

// isolated is whether a VM of that mode is shut off from others, nil: by default. In
// mode user no VM reaches another, and one that is isolated reaches nothing at all: by
// default none is.
func (m *Manager) isolated(mode banger.NetworkMode, ask *bool) bool {
	return orElse(ask, m.c.Isolate && mode == banger.NetworkRouted)
}

// reach makes the network of a VM that runs follow what it may reach and be reached by,
// where that can be done while it runs, and reports whether anything had to.
func (s *subject) reach(ctx context.Context, a network.Attacher, was banger.Spec) (bool, error) {
	now := s.rec.Spec
	t, ok := a.(network.Translator)
	if !ok || was.NAT == now.NAT && was.Isolated == now.Isolated && slices.Equal(was.AllowHost, now.AllowHost) {
		return false, nil
	}
	return true, t.Adjust(ctx, s.nic())
}
