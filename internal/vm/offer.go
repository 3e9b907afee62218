package vm

import (
	"context"
	"slices"

	"banger"
)

// An Offer is what whoever asks for a VM can do about a banger-root that does not run.
type Offer string

const (
	NoOffer Offer = ""
	// Offered: it can try to start one without asking anybody. Told NeedsRoot it does
	// so, and asks again.
	Offered Offer = "offered"
	// Refused: it has tried, in vain. What needs none is taken, and nobody is asked to
	// try again: an attempt of sudo's that is not allowed is told to the administrator.
	Refused Offer = "refused"
)

func checkOffer(o Offer) error {
	if o != NoOffer && o != Offered && o != Refused {
		return invalid("root is %q", o).WithRemedy("leave it out, or use %s or %s", Offered, Refused)
	}
	return nil
}

// takes reports whether banger-root is to be asked for, where a VM that leaves its
// network to us would be another with it.
func (m *Manager) takes(o Offer) bool {
	if o == Refused {
		m.refused.Store(true)
	}
	return o == Offered && !m.refused.Load()
}

// bestDisk returns NeedsRoot where a root disk that is made now would not be what it
// would be with a banger-root that is just not running, and the VM cannot run without
// one anyway: it would stay so for ever, and nobody would know why.
func (m *Manager) bestDisk(ctx context.Context, spec banger.Spec) error {
	if spec.Network != banger.NetworkRouted {
		return nil
	}
	b, err := m.backend(spec.Backend)
	if err != nil {
		return err
	}
	caps, err := b.Probe(ctx)
	if err != nil {
		return err
	}
	for _, st := range m.c.Disks {
		if !slices.Contains(caps.Formats, st.Format()) {
			continue
		}
		if err := st.Probe(ctx, m.c.Paths.VMs()); err == nil || banger.CodeOf(err) == banger.NeedsRoot {
			return err
		}
	}
	return nil
}
