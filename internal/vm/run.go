package vm

import (
	"context"
	"errors"
	"time"

	"banger"
	"banger/internal/steps"
)

// Names of steps that errors and tests speak of.
const (
	stepVMM   = "vmm"
	stepGuest = "guest"
)

// run is what a VM has while it runs. Every Ensure leaves a VMM that lives as
// it is: the list is also how a daemon mends a VM that outlived the last one.
func run() []steps.Step[*subject] {
	return []steps.Step[*subject]{
		{Name: "attach disk", Ensure: ensureAttached, Release: releaseAttached},
		{Name: "network", Ensure: ensureNetwork, Release: releaseNetwork, Grace: time.Minute}, // banger-root may have other users' requests to do first
		{Name: "initramfs", Ensure: ensureInitrd, Release: releaseInitrd},
		{Name: stepVMM, Ensure: ensureVMM, Release: releaseVMM, Grace: 20 * time.Second, Holds: true},
		{Name: stepGuest, Ensure: ensureGuest, Release: releaseGuest},
	}
}

func ensureAttached(ctx context.Context, s *subject) error {
	if s.life != nil {
		return nil
	}
	st, err := s.strategy(ctx)
	if err != nil {
		return err
	}
	f, err := s.m.c.Images.Files(ctx, s.img)
	if err != nil {
		return err
	}
	if err := s.finishGrowth(ctx); err != nil {
		return err
	}
	if s.work, err = s.attachWorkDisk(); err != nil {
		return err
	}
	s.disk, err = st.Attach(ctx, s.base(f), s.storageDisk())
	s.format = st.Format()
	return err
}

func releaseAttached(ctx context.Context, s *subject) error {
	var errs []error
	for _, st := range s.m.c.Disks {
		errs = append(errs, st.Detach(ctx, s.storageDisk()))
	}
	return errors.Join(errs...)
}

// ensureNetwork records the endpoint before the VMM that may open it.
func ensureNetwork(ctx context.Context, s *subject) error {
	a, err := s.attacher()
	if err != nil {
		return err
	}
	var prev *banger.Endpoint
	if s.rec.Run.Endpoint.SSH.IsValid() {
		prev = &s.rec.Run.Endpoint
	}
	nic := s.nic()
	if b, err := s.backend(); err == nil {
		if caps, err := b.Probe(ctx); err == nil {
			nic.Stream = caps.Stream
		}
	}
	ep, err := a.Attach(ctx, nic, prev)
	if err != nil {
		return err
	}
	if err := s.save(ctx, func(r *banger.Record) { r.Run.Endpoint = ep }); err != nil {
		return err
	}
	s.guard()
	return nil
}

func releaseNetwork(ctx context.Context, s *subject) error {
	a, err := s.attacher()
	if err != nil {
		return err
	}
	return a.Detach(ctx, s.nic())
}
