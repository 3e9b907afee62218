package vm

import (
	"context"
	"errors"
	"reflect"

	"banger"
	"banger/internal/steps"
	"banger/internal/storage"
)

// Set changes a VM. Nothing is changed unless everything is valid; what was
// begun is finished whoever goes away, by the next daemon if need be. A new name
// leaves address and disks alone; the guest hears of it at its next start. NAT and, in
// mode routed, ports and what it may reach besides change at once.
func (m *Manager) Set(ctx context.Context, ref string, c Change) (banger.VM, error) {
	return m.change(ctx, ref, keepsRun, func(s *subject) error {
		spec, err := m.respec(ctx, s, c)
		if err == nil {
			spec, err = m.settleNetwork(ctx, spec, asked(spec.NAT), false, silent{m.c.Log})
			if spec.Network != s.rec.Spec.Network && c.Isolated == nil { // one that talks to others only once it is routed
				spec.Isolated = spec.Isolated || m.isolated(spec.Network, nil)
			}
		}
		if err != nil {
			return err
		}
		if err := s.needsRestart(c); err != nil {
			return err
		}
		if c.Disk != nil || c.WorkDisk != nil {
			if err := s.resetting(ctx, s.hook(silent{m.c.Log})); err != nil {
				return err
			}
		}
		if s.rec.Run != nil && c.NAT != nil && *c.NAT {
			if err := m.preflight(ctx, spec, silent{m.c.Log}); err != nil {
				return err
			}
		}
		was := s.rec.Spec
		ctx := context.WithoutCancel(ctx)
		err = m.claim(ctx, s.rec.ID, spec.Publish, func() error { return s.respecify(ctx, spec, c.Disk != nil || c.WorkDisk != nil) })
		if err == nil {
			err = s.adjust(ctx, was)
		}
		if err == nil {
			s.tellOfChange(was)
		}
		return err
	})
}

// tellOfChange tells what of the spec is another than it was.
func (s *subject) tellOfChange(was banger.Spec) {
	now := s.rec.Spec
	if was.Name != now.Name {
		s.tellOf(banger.VMEvent{Type: banger.VMRenamed, Was: was.Name})
	}
	if was.Name = now.Name; !reflect.DeepEqual(was, now) {
		s.tell(banger.VMChanged)
	}
}

// respecify records what is wanted and then makes the disks so.
func (s *subject) respecify(ctx context.Context, spec banger.Spec, disks bool) error {
	was := s.rec.Spec
	err := s.save(ctx, func(r *banger.Record) { r.Spec = spec })
	if err != nil || !disks {
		return err
	}
	hook := s.hook(silent{s.m.c.Log.With("vm", s.rec.ID, "name", spec.Name)})
	err = steps.Up(ctx, s, hook, steps.Step[*subject]{Name: "grow disk", Ensure: growDisks})
	if err == nil {
		return nil
	}
	// A change is made whole or not at all, but the disks are as large as they are.
	if size := s.diskSize(); size > was.Disk {
		was.Disk = size
	}
	if size := s.workDiskSize(); was.WorkDisk > 0 && size > was.WorkDisk {
		was.WorkDisk = size
	}
	return errors.Join(err, s.save(ctx, func(r *banger.Record) { r.Spec = was }))
}

// needsStop reports whether c changes what a VMM of that network mode was started with,
// ports aside.
func (c Change) needsStop(mode banger.NetworkMode) bool {
	c.Name, c.Autostart, c.NAT, c.AllowHost = nil, nil, nil, nil
	c.Publish, c.AddPublish, c.Unpublish = nil, nil, nil
	if mode == banger.NetworkRouted {
		c.Isolated = nil
	}
	return c != Change{}
}

// respec returns the spec that a change asks for.
func (m *Manager) respec(ctx context.Context, s *subject, c Change) (banger.Spec, error) {
	spec := s.rec.Spec
	var errs []error
	if c.Name != nil {
		spec.Name = *c.Name
		errs = append(errs, banger.ValidName(spec.Name))
	}
	spec.Autostart = orElse(c.Autostart, spec.Autostart)
	if c.CPUs != nil {
		spec.CPUs = *c.CPUs
		errs = append(errs, checkCPUs(spec.CPUs))
	}
	if c.Memory != nil {
		spec.Memory = *c.Memory
		errs = append(errs, m.checkMemory(spec.Memory))
	}
	if c.Disk != nil {
		spec.Disk = *c.Disk
		errs = append(errs, checkDisk(spec.Disk, 0))
		if spec.Disk > 0 && spec.Disk < s.rec.Spec.Disk {
			errs = append(errs, invalid("disk of %s cannot shrink from %s to %s", s.rec.Spec.Name, banger.FormatSize(s.rec.Spec.Disk), banger.FormatSize(spec.Disk)).
				WithRemedy("make a VM with a smaller one: banger vm create --disk %s", banger.FormatSize(spec.Disk)))
		}
	}
	if c.WorkDisk != nil {
		size, err := newWorkDisk(s.rec.Spec, *c.WorkDisk)
		errs = append(errs, err)
		spec.WorkDisk = size
	}
	if c.Network != nil {
		mode, err := m.network(*c.Network)
		errs = append(errs, err)
		spec.Network = mode
	}
	errs = append(errs, m.respecBackend(ctx, &spec, c))
	spec.Isolated = orElse(c.Isolated, spec.Isolated)
	spec.AllowHost = orElse(c.AllowHost, spec.AllowHost)
	ports, err := c.ports(spec)
	errs = append(errs, err)
	spec.Publish = ports
	if c.NAT != nil || c.Network != nil && spec.NAT == banger.NATWanted {
		spec.NAT = m.nat(spec.Network, c.NAT)
	}
	if c.setsPorts() || c.Network != nil || c.Isolated != nil {
		errs = append(errs, m.checkPublish(spec))
	}
	if c.NAT != nil || c.Network != nil || c.Isolated != nil {
		errs = append(errs, checkNAT(spec))
	}
	if c.AllowHost != nil || c.Network != nil {
		errs = append(errs, checkAllow(spec))
	}
	return spec, errors.Join(errs...)
}

// respecBackend is what a change of backend or network means for the two.
func (m *Manager) respecBackend(ctx context.Context, spec *banger.Spec, c Change) error {
	if c.Backend == nil && c.Network == nil {
		return nil
	}
	auto := c.Network != nil && *c.Network == string(banger.NetworkAuto)
	spec.Backend = orElse(c.Backend, spec.Backend)
	b, err := m.backend(spec.Backend)
	if err != nil && c.Backend != nil {
		return noBackend(spec.Backend)
	}
	if err == nil {
		err = m.suit(ctx, b, spec, auto)
	}
	if c.Backend == nil && banger.CodeOf(err) != banger.WrongState {
		return nil // it does not work here now: that is no reason against another network
	}
	return err
}

// growDisks makes the disks as large as they are recorded to be.
func growDisks(ctx context.Context, s *subject) error {
	return errors.Join(growDisk(ctx, s), growWorkDisk(s))
}

func growDisk(ctx context.Context, s *subject) error {
	st, err := s.strategy(ctx)
	if err != nil {
		return err
	}
	f, err := s.m.c.Images.Files(ctx, s.img)
	if err != nil {
		return err
	}
	return st.Grow(ctx, s.base(f), s.storageDisk(), s.rec.Spec.Disk)
}

// finishGrowth grows disks that an earlier daemon recorded to be larger and did
// not come to. It costs a look at the files.
func (s *subject) finishGrowth(ctx context.Context) error {
	if size := s.workDiskSize(); size > 0 && size < s.rec.Spec.WorkDisk {
		if err := growWorkDisk(s); err != nil {
			return err
		}
	}
	if size := s.diskSize(); size == 0 || size >= s.rec.Spec.Disk {
		return nil
	}
	return growDisk(ctx, s)
}

// diskSize is the disk's virtual size, bytes; 0: it cannot be told.
func (s *subject) diskSize() int64 {
	for _, st := range s.m.c.Disks {
		if z, ok := st.(storage.Sizer); ok {
			if size, err := z.Size(s.storageDisk()); err == nil {
				return size
			}
		}
	}
	return 0
}
