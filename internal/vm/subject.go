package vm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"banger"
	"banger/internal/network"
	"banger/internal/steps"
	"banger/internal/storage"
	"banger/internal/vmm"
)

// A subject is one VM under change: what the steps work on. Its VM's lock is
// held while it exists.
type subject struct {
	m    *Manager
	rec  banger.Record
	img  banger.Image
	past *life // that was ended, until that is recorded
	life *life // of the running VMM; nil until there is one

	background bool // nobody asked: interrupted, it leaves a VMM that lives to whoever comes next

	vanished bool // its run ended while no daemon ran, and nobody knows why

	launched bool  // a VMM of this run may have written to the console's log
	console  int64 // bytes that the log had before

	disk   string            // what the VMM opens, known once the disk is attached
	format banger.DiskFormat // of disk
	work   string            // likewise the work disk; "": it has none
}

func (m *Manager) subject(ctx context.Context, rec banger.Record) (*subject, error) {
	s := &subject{m: m, rec: rec, life: m.life(rec.ID)}
	var err error
	s.img, err = m.c.Store.Image(ctx, rec.ImageID)
	if err != nil {
		return nil, fmt.Errorf("image of %s: %w", rec.Spec.Name, err)
	}
	return s, nil
}

// save changes the record, in the store first.
func (s *subject) save(ctx context.Context, change func(*banger.Record)) error {
	rec, err := s.m.c.Store.UpdateVM(ctx, s.rec.ID, func(r *banger.Record) error { change(r); return nil })
	if err == nil {
		s.rec = rec
	}
	return err
}

func (s *subject) owner() *banger.Owner { return s.m.c.Owner(s.rec.Lease) }

func (s *subject) storageDisk() storage.Disk {
	return storage.Disk{VM: s.rec.ID, Dir: s.m.c.Paths.VMDir(s.rec.ID), Size: s.rec.Spec.Disk, Owner: s.owner()}
}

func (s *subject) nic() network.NIC {
	return network.NIC{
		VM: s.rec.ID, MAC: s.rec.Lease.MAC, Addr: s.rec.Lease.Addr, Net: s.m.c.Subnet(), Owner: s.owner(),
		Isolated: s.rec.Spec.Isolated, NAT: s.rec.Spec.NAT != banger.NATOff, Publish: s.rec.Spec.Publish,
		Allow: s.rec.Spec.AllowHost,
	}
}

// backend is the one that the VM was made for.
func (s *subject) backend() (vmm.Backend, error) { return s.m.backend(s.rec.Spec.Backend) }

// strategy is the way in which this VM's root disk was made, or is to be made.
func (s *subject) strategy(ctx context.Context) (storage.Strategy, error) {
	b, err := s.backend()
	if err != nil {
		return nil, err
	}
	caps, err := b.Probe(ctx)
	if err != nil {
		return nil, err
	}
	made := storage.Of(s.storageDisk(), s.m.c.Disks...)
	if made == nil {
		if err := s.m.bestDisk(ctx, s.rec.Spec); err != nil {
			return nil, err
		}
		return storage.Choose(ctx, s.m.c.Paths.VMDir(s.rec.ID), caps.Formats, s.m.c.Disks...)
	}
	if !slices.Contains(caps.Formats, made.Format()) {
		name := s.rec.Spec.Name
		return nil, banger.Errorf(banger.WrongState, "the root disk of %s is %s, which %s does not boot", name, made.Format(), b.Name()).
			WithRemedy("banger vm set %[1]s --backend %[2]s; or, to throw away what it holds: banger vm reset %[1]s", name, s.m.boots(ctx, made.Format()))
	}
	return made, nil
}

func (s *subject) attacher() (network.Attacher, error) { return s.m.attacher(s.rec.Spec) }

func (m *Manager) attacher(spec banger.Spec) (network.Attacher, error) {
	for _, n := range m.c.Nets {
		if n.Mode() == spec.Network {
			return n, nil
		}
	}
	return nil, banger.Errorf(banger.HostUnready, "network %s is not available", spec.Network).WithRemedy("banger vm set %s --network user", spec.Name)
}

// hook reports a list's progress, logs it, and lets tests in.
func (s *subject) hook(rep Reporter) steps.Hook {
	began := map[string]time.Time{}
	return func(step string, at steps.Phase) error {
		now := s.m.c.Now()
		log := s.m.c.Log.With("vm", s.rec.ID, "name", s.rec.Spec.Name, "step", step)
		switch at {
		case steps.BeforeEnsure:
			began[step] = now
			rep.Step(step)
		case steps.AfterEnsure:
			rep.StepDone(step, now.Sub(began[step])) // which logs it
		case steps.BeforeRelease:
			log.Debug("release")
		}
		if s.m.c.Hook != nil {
			return s.m.c.Hook(s.rec.ID, step, at)
		}
		return nil
	}
}

// silent is a Reporter for changes that no user asked for: the log hears of them.
type silent struct{ log *slog.Logger }

func (silent) Step(string)                   {}
func (silent) Progress(string, int64, int64) {}
func (silent) Message(string, ...any)        {}
func (s silent) StepDone(name string, elapsed time.Duration) {
	s.log.Info("step done", "step", name, "elapsed", elapsed)
}

// isGone reports whether err says that there is no such VMM any more.
func isGone(err error) bool { return errors.Is(err, vmm.ErrGone) }
