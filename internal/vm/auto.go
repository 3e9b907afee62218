package vm

import (
	"context"

	"banger"
	"banger/internal/network"
)

// auto chooses the network mode of a VM that was asked for none: routed where it can
// be had and the VM reaches the world as it would in mode user, else that, and why, a
// *banger.Error or nil. A VM that is isolated, and of which nothing was said about NAT,
// is to reach nothing at all, as mode user has it.
func (m *Manager) auto(ctx context.Context, spec banger.Spec, nat *bool) (banger.NetworkMode, error) {
	otherwise := m.c.Nets[0].Mode()
	spec.Network = banger.NetworkRouted
	a, err := m.attacher(spec)
	if err != nil || spec.Isolated && nat == nil {
		return otherwise, nil
	}
	if err := m.checkPublish(spec); err != nil {
		return otherwise, err
	}
	if err := a.Probe(ctx); err != nil {
		return otherwise, err
	}
	if t, ok := a.(network.Translator); ok && m.nat(banger.NetworkRouted, nat) != banger.NATOff {
		if err := t.CheckNAT(ctx); err != nil {
			return otherwise, err
		}
	}
	return banger.NetworkRouted, nil
}

// asked is what was said about NAT of a VM that has it so.
func asked(has banger.NAT) *bool {
	if has == banger.NATWanted {
		return nil
	}
	yes := has == banger.NATRequired
	return &yes
}

// settleNetwork chooses the mode of a VM whose backend leaves that open, and says what
// keeps it from being routed. Where that is a banger-root that does not run, and takesRoot,
// it returns that, NeedsRoot.
func (m *Manager) settleNetwork(ctx context.Context, spec banger.Spec, nat *bool, takesRoot bool, rep Reporter) (banger.Spec, error) {
	if spec.Network != banger.NetworkAuto {
		return spec, nil
	}
	mode, why := m.auto(ctx, spec, nat)
	if takesRoot && banger.CodeOf(why) == banger.NeedsRoot {
		return spec, why
	}
	if e := banger.AsError(why); e != nil {
		rep.Message("network mode %s: %s; %s", mode, e.Message, e.Remedy)
	}
	spec.Network, spec.NAT = mode, m.nat(mode, nat)
	return spec, m.checkNetwork(spec)
}
