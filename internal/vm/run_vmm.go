package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"banger"
	"banger/internal/guestapi"
	"banger/internal/vmm"
)

// ensureVMM launches the VMM, or finds the one that an earlier daemon
// launched. The launch ID was recorded before; the PID is recorded as soon as
// it is known.
func ensureVMM(ctx context.Context, s *subject) error {
	if s.life != nil {
		return nil
	}
	b, err := s.backend()
	if err != nil {
		return err
	}
	f, err := s.m.c.Images.Files(ctx, s.img)
	if err != nil {
		return err
	}
	s.launched, s.console = true, sizeOf(s.m.c.Paths.Serial(s.rec.ID))
	p, err := b.Start(ctx, s.machine(f), func(h banger.Handle) error {
		return s.save(ctx, func(r *banger.Record) { r.Run.Handle = &h })
	})
	if err != nil {
		return err
	}
	h := p.Handle()
	s.life = s.m.watch(s.rec.ID, s.rec.Run.Launch, p)
	s.guard()
	if err := s.save(ctx, func(r *banger.Record) { r.Run.Handle = &h }); err != nil {
		return err
	}
	// The VMM has read it: nothing secret stays in a file.
	return os.Remove(s.m.c.Paths.Initrd(s.rec.ID, s.rec.Run.Launch))
}

func (s *subject) machine(f Files) vmm.Machine {
	r, p := s.rec, s.m.c.Paths
	return vmm.Machine{
		VM: r.ID, Name: r.Spec.Name, Launch: r.Run.Launch, Dir: p.VMDir(r.ID),
		Kernel: f.Kernel, VMLinux: f.VMLinux, Initrd: p.Initrd(r.ID, r.Run.Launch),
		Cmdline: []string{"quiet", "panic=1", "net.ifnames=0", "cloud-init=disabled", "selinux=0", "systemd.show_status=0"},
		CPUs:    r.Spec.CPUs, Memory: r.Spec.Memory,
		Disks: s.machineDisks(f),
		Net:   r.Run.Endpoint, Addr: r.Lease.Addr.String(), GuestPort: guestapi.Port, MAC: r.Lease.MAC,
		SerialLog: p.Serial(r.ID), VMMLog: p.VMMLog(r.ID), Owner: s.owner(),
	}
}

// machineDisks are the VM's disks in the order of guestapi's device names.
func (s *subject) machineDisks(f Files) []vmm.Disk {
	all := []vmm.Disk{
		{Path: s.disk, Format: s.format},
		{Path: f.Modules, Format: banger.FormatRaw, ReadOnly: true},
	}
	if s.work != "" {
		all = append(all, vmm.Disk{Path: s.work, Format: banger.FormatRaw})
	}
	return all
}

// releaseVMM ends the VMM, whoever launched it and whatever of it was recorded.
func releaseVMM(ctx context.Context, s *subject) error {
	p, err := s.process(ctx)
	if isGone(err) {
		return s.removeSockets()
	}
	if err != nil {
		return err
	}
	if err := p.Kill(ctx); err != nil {
		return errors.Join(fmt.Errorf("end the VMM (PID %d): %w", p.Handle().PID, err), s.letGo(p))
	}
	if s.life != nil {
		s.past, s.life = s.life, nil // until how it ended is recorded
	}
	return errors.Join(p.Close(), s.removeSockets())
}

// removeSockets removes what a VMM that was killed leaves in the VM's
// directory, in which nothing listens any more.
func (s *subject) removeSockets() error {
	dir := s.m.c.Paths.VMDir(s.rec.ID)
	ents, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range ents {
		if e.Type() == os.ModeSocket {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// letGo closes what process found, unless it is under the daemon's eyes.
func (s *subject) letGo(p vmm.Process) error {
	if p == nil || s.life != nil && s.life.proc == p {
		return nil
	}
	return p.Close()
}

// process is the VM's VMM: the one at hand, or one that is found.
func (s *subject) process(ctx context.Context) (vmm.Process, error) {
	if s.life != nil {
		return s.life.proc, nil
	}
	if s.rec.Run == nil {
		return nil, vmm.ErrGone
	}
	b, err := s.backend()
	if err != nil {
		return nil, err
	}
	h := banger.Handle{Backend: b.Name(), Launch: s.rec.Run.Launch}
	if s.rec.Run.Handle != nil {
		h = *s.rec.Run.Handle
	}
	return b.Adopt(ctx, h)
}
