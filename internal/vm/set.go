package vm

import (
	"context"
	"errors"

	"banger"
)

// Set changes a stopped VM. Nothing is changed unless everything is valid.
func (m *Manager) Set(ctx context.Context, ref string, c Change) (banger.VM, error) {
	return m.change(ctx, ref, keepsRun, func(s *subject) error {
		spec, err := m.respec(s, c)
		if err != nil {
			return err
		}
		if s.rec.Run != nil {
			return banger.Errorf(banger.WrongState, "%s is running", s.rec.Spec.Name).WithRemedy("banger stop %s", s.rec.Spec.Name)
		}
		if spec.Disk > s.rec.Spec.Disk {
			if err := s.grow(ctx, spec.Disk); err != nil {
				return err
			}
		}
		return s.save(ctx, func(r *banger.Record) { r.Spec = spec })
	})
}

// respec returns the spec that a change asks for.
func (m *Manager) respec(s *subject, c Change) (banger.Spec, error) {
	spec := s.rec.Spec
	var errs []error
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
			errs = append(errs, invalid("disk of %s cannot shrink from %s to %s", spec.Name, banger.FormatSize(s.rec.Spec.Disk), banger.FormatSize(spec.Disk)))
		}
	}
	if c.Network != nil {
		mode, err := m.network(*c.Network)
		errs = append(errs, err)
		spec.Network = mode
	}
	return spec, errors.Join(errs...)
}

func (s *subject) grow(ctx context.Context, size int64) error {
	st, err := s.strategy(ctx)
	if err != nil {
		return err
	}
	f, err := s.m.c.Images.Files(ctx, s.img)
	if err != nil {
		return err
	}
	return st.Grow(ctx, s.base(f), s.storageDisk(), size)
}
