package vm

import (
	"context"
	"errors"
	"slices"

	"banger"
	"banger/internal/network"
)

// nat is what a VM of that mode is to have, as asked for, nil: by default.
func (m *Manager) nat(mode banger.NetworkMode, ask *bool) banger.NAT {
	switch {
	case ask != nil && *ask:
		return banger.NATRequired
	case ask != nil, mode == banger.NetworkRouted && m.c.NoNAT:
		return banger.NATOff
	}
	return banger.NATWanted
}

// checkNAT refuses what mode user cannot do: it leads out, unless the VM is
// isolated.
func checkNAT(s banger.Spec) error {
	switch {
	case s.Network != banger.NetworkUser:
	case s.NAT == banger.NATOff && !s.Isolated:
		return invalid("a VM in network mode user always reaches the world").
			WithRemedy("shut it off from everything with --isolated, or use --network routed --nat=false")
	case s.NAT == banger.NATRequired && s.Isolated:
		return invalid("an isolated VM in network mode user reaches nothing, whatever --nat says").
			WithRemedy("leave --isolated out, or use --network routed")
	}
	return nil
}

// preflightNAT says why a VM that was asked to have NAT cannot have it. One that
// is to have it by default alone starts without.
func (m *Manager) preflightNAT(ctx context.Context, a network.Attacher, spec banger.Spec, rep Reporter) error {
	t, ok := a.(network.Translator)
	if !ok || spec.NAT == banger.NATOff {
		return nil
	}
	e := banger.AsError(t.CheckNAT(ctx))
	if e == nil {
		return nil
	}
	if spec.NAT == banger.NATRequired {
		return e
	}
	rep.Message("it will not reach the world yet: %s; %s", e.Message, e.Remedy)
	return nil
}

// adjust makes the network of a VM that runs follow its record: NAT, and ports. If it
// cannot, the record and the network are as they were.
func (s *subject) adjust(ctx context.Context, was banger.Spec) error {
	a, err := s.attacher()
	if err != nil || s.rec.Run == nil {
		return err
	}
	now := s.rec.Spec
	reaches, err := s.reach(ctx, a, was)
	if err != nil {
		return errors.Join(err, s.save(ctx, func(r *banger.Record) { r.Spec = was }))
	}
	live, ok := a.(network.Republisher)
	if !ok || slices.Equal(was.Publish, now.Publish) {
		return nil
	}
	if err = live.Republish(ctx, s.nic()); err == nil {
		return nil
	}
	err = errors.Join(err, s.save(ctx, func(r *banger.Record) { r.Spec = was }))
	if reaches {
		err = errors.Join(err, a.(network.Translator).Adjust(ctx, s.nic()))
	}
	return err
}
