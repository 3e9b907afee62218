package vm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"banger"
	"banger/internal/vmm"
)

// networkOf is the network mode that a request names, or else the configuration.
func (m *Manager) networkOf(c Create) banger.NetworkMode {
	return banger.NetworkMode(orElse(c.Network, cmp.Or(m.c.Network, string(banger.NetworkAuto))))
}

// choose returns spec with what is to run it: the backend that was asked for, or
// else the first that works here with that network. With auto, the network is
// what suits the backend. A banger-root that does not run is a reason for the next
// backend, unless takesRoot: then it is the error, NeedsRoot.
func (m *Manager) choose(ctx context.Context, spec banger.Spec, auto, takesRoot bool) (banger.Spec, error) {
	var refused []error
	for _, b := range m.c.Backends {
		if spec.Backend != "" && b.Name() != spec.Backend {
			continue
		}
		s := spec
		s.Backend = b.Name()
		err := m.suit(ctx, b, &s, auto)
		if err == nil && spec.Backend == "" && s.Network != spec.Network {
			err = m.preflight(ctx, s, silent{m.c.Log}) // nobody asked for a network that cannot be had
		}
		if err == nil {
			return s, nil
		}
		if takesRoot && auto && banger.CodeOf(err) == banger.NeedsRoot {
			return spec, err
		}
		refused = append(refused, fmt.Errorf("backend %s: %w", b.Name(), err))
	}
	if len(refused) == 0 {
		return spec, noBackend(spec.Backend)
	}
	slices.Reverse(refused) // the last works on most hosts: its remedy is the one to tell
	return spec, errors.Join(refused...)
}

// suit holds spec against what b offers on this host.
func (m *Manager) suit(ctx context.Context, b vmm.Backend, spec *banger.Spec, auto bool) error {
	caps, err := b.Probe(ctx)
	if err != nil {
		return err
	}
	if !caps.NeedsTap || spec.Network == banger.NetworkRouted {
		return nil
	}
	if !auto {
		return needsTap(*spec)
	}
	spec.Network = banger.NetworkRouted
	if spec.NAT == banger.NATWanted {
		spec.NAT = m.nat(spec.Network, nil)
	}
	return m.checkPublish(*spec)
}

// backend returns the one of that name.
func (m *Manager) backend(name string) (vmm.Backend, error) {
	for _, b := range m.c.Backends {
		if b.Name() == name {
			return b, nil
		}
	}
	return nil, banger.Errorf(banger.HostUnready, "this banger has no backend %q", name)
}

// boots is the first backend that works here and boots disks of a format, for a command
// to be copied.
func (m *Manager) boots(ctx context.Context, f banger.DiskFormat) string {
	for _, b := range m.c.Backends {
		if caps, err := b.Probe(ctx); err == nil && slices.Contains(caps.Formats, f) {
			return b.Name()
		}
	}
	return "NAME, with the one that it was made with"
}

func noBackend(name string) *banger.Error {
	return invalid("no backend %q", name).WithRemedy("leave it out, or see banger doctor")
}

func needsTap(s banger.Spec) *banger.Error {
	return banger.Errorf(banger.WrongState, "%s has no network mode %s: it needs a tap", s.Backend, s.Network).
		WithRemedy("use --network routed with it, or --backend qemu")
}
