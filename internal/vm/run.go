package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"banger"
	"banger/internal/guestapi"
	"banger/internal/initramfs"
	"banger/internal/steps"
	"banger/internal/vmm"
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

// ensureInitrd joins the VM's identity, this installation's guest program and
// the image's modules into one file that only the VMM can read.
func ensureInitrd(ctx context.Context, s *subject) error {
	if s.life != nil {
		return nil
	}
	f, err := s.m.c.Images.Files(ctx, s.img)
	if err != nil {
		return err
	}
	id, err := json.Marshal(s.identity())
	if err != nil {
		return err
	}
	if err := s.m.c.Paths.Prepare(); err != nil {
		return err
	}
	if err := privateDir(s.m.c.Paths.RunVMDir(s.rec.ID), s.owner()); err != nil {
		return err
	}
	return writeInitrd(s.m.c.Paths.Initrd(s.rec.ID, s.rec.Run.Launch), id, s.m.c.Guest, f.Initramfs, s.owner())
}

func writeInitrd(path string, identity []byte, guest, base string, o *banger.Owner) (err error) {
	b, err := os.Open(base)
	if err != nil {
		return err
	}
	defer b.Close()
	g, err := os.Open(guest)
	if err != nil {
		return banger.Errorf(banger.HostUnready, "open the guest program: %w", err).WithRemedy("make build (banger-guest lies beside bangerd)")
	}
	defer g.Close()
	w, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if o != nil {
		if err := w.Chown(int(o.UID), int(o.GID)); err != nil {
			return err
		}
	}
	return initramfs.Join(w, identity, g, b)
}

func releaseInitrd(_ context.Context, s *subject) error {
	return os.RemoveAll(s.m.c.Paths.RunVMDir(s.rec.ID))
}

func (s *subject) identity() guestapi.Identity {
	r, net := s.rec, s.m.c.Subnet()
	work := ""
	if r.Spec.WorkDisk > 0 {
		work = workUUID(r.Lease)
	}
	return guestapi.Identity{
		Version: guestapi.Version, VM: string(r.ID), Launch: r.Run.Launch,
		Hostname: r.Spec.Name, MachineID: r.Lease.MachineID, MAC: r.Lease.MAC,
		Address: netip.PrefixFrom(r.Lease.Addr, 32), Gateway: net.Gateway, GatewayMAC: r.Run.Endpoint.GatewayMAC, MTU: r.Run.Endpoint.MTU,
		Resolvers: []netip.Addr{net.Resolver},
		HostKey:   r.HostKey, AuthorizedKeys: []string{s.m.c.AuthorizedKey},
		WorkDisk: work,
	}
}

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

// untilReady is ctx with the limit of what a guest may take to answer.
func (m *Manager) untilReady(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, m.c.Timeouts.Ready, banger.Errorf(banger.TimedOut, "no answer within %s", m.c.Timeouts.Ready))
}

// ensureGuest waits until the guest program answers.
func ensureGuest(ctx context.Context, s *subject) error {
	st, err := s.askStatus(ctx)
	for s.background && errors.Is(err, errPaused) {
		// Nobody waits for it, and it goes on when there is room.
		if err := s.m.awaitRoom(ctx, s.life); err != nil {
			return err
		}
		st, err = s.askStatus(ctx)
	}
	if err != nil {
		return err
	}
	if st.Launch != s.rec.Run.Launch {
		return fmt.Errorf("the guest answers for launch %q, not %s", st.Launch, s.rec.Run.Launch)
	}
	// The VMM of an earlier daemon, too, has read it by now.
	if err := os.Remove(s.m.c.Paths.Initrd(s.rec.ID, s.rec.Run.Launch)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if s.rec.Run.ReadyAt.IsZero() {
		now := s.m.c.Now()
		if err := s.save(ctx, func(r *banger.Record) { r.Run.ReadyAt = now }); err != nil {
			return err
		}
	}
	s.lack(st.Problem)
	s.setReady(s.life)
	return nil
}

// askStatus asks the guest program how it is, once it answers.
func (s *subject) askStatus(ctx context.Context) (guestapi.Status, error) {
	ctx, cancel := s.m.untilReady(ctx)
	defer cancel()
	ctx, stop := s.m.untilDeaf(ctx, s.life)
	defer stop()
	g, err := s.m.c.Guests.Reach(ctx, s.target(), s.life.gone)
	if why := s.m.deaf(s.life); why != nil && !s.life.over() {
		return guestapi.Status{}, why
	}
	if err != nil {
		return guestapi.Status{}, err
	}
	return g.Status(ctx)
}

func releaseGuest(_ context.Context, s *subject) error {
	s.m.c.Guests.Drop(s.rec.ID, s.rec.Run.Launch)
	return nil
}

func (s *subject) target() Target {
	h := s.rec.Run.Handle
	t := Target{
		VM: s.rec.ID, Launch: s.rec.Run.Launch, Addr: s.rec.Run.Endpoint.SSH.String(), Key: s.rec.HostKey,
		Emulated: h != nil && h.Accelerator == "tcg",
	}
	if s.life != nil {
		t.VSock, _ = s.life.proc.(vmm.VSock) // nil where its backend has none
	}
	return t
}
