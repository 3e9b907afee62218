// Package firecracker runs VMs on Firecracker, driven through its official Go
// SDK. The SDK configures and starts the guest; the process is launched,
// watched and ended by us, like every other VMM (docs/adr/0016).
package firecracker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/host"
	"banger/internal/vmm"
	"banger/internal/vmm/kvm"
)

const (
	name          = "firecracker"
	tool          = "firecracker"
	handleVersion = 1
	accelerator   = "kvm" // there is no other
	maxSocketPath = 107   // sun_path of unix(7), less the final NUL
	// How long a Firecracker may take to answer and to start its guest: it reads
	// the kernel (50 MiB) meanwhile. On a host that is emulated and overloaded 30
	// seconds were not enough.
	answerLimit = 90 * time.Second
	// The usual patience with one that an earlier daemon launched.
	adoptLimit = 10 * time.Second
)

// Files in the VM's directory, beside the machine's logs.
const (
	socketName  = "api.sock"
	logName     = "firecracker.log"     // Firecracker's own log, of the last run
	metricsName = "firecracker.metrics" // a line of JSON each minute, of the last run
)

// A Starter is what the backend needs of the host.
type Starter interface {
	host.Runner
	host.Launcher
}

// A Config is all that a Backend works with.
type Config struct {
	Host    Starter
	Watcher *host.Watcher
	KVM     *kvm.Device
	UID     int // of the daemon
	Now     func() time.Time
	Log     *slog.Logger
}

// A Backend implements vmm.Backend.
type Backend struct {
	c        Config
	answer   time.Duration
	patience time.Duration
	probe    func(context.Context) error // of KVM

	mu      sync.Mutex
	version release // zero: not asked yet
}

// New returns a backend that has asked nothing yet.
func New(c Config) *Backend {
	return &Backend{c: c, answer: answerLimit, patience: adoptLimit, probe: c.KVM.Probe}
}

// Name implements vmm.Backend.
func (b *Backend) Name() string { return name }

// Probe implements vmm.Backend. A missing program or KVM is looked for anew.
func (b *Backend) Probe(ctx context.Context) (vmm.Caps, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.version == (release{}) {
		out, err := b.c.Host.Run(ctx, host.Cmd{Tool: tool, Args: []string{"--version"}})
		if errors.Is(err, host.ErrMissing) {
			return vmm.Caps{}, banger.AsError(err).WithRemedy("take a release: %s", whence)
		}
		if err != nil {
			return vmm.Caps{}, err
		}
		v, err := parseVersion(string(out))
		if err != nil {
			return vmm.Caps{}, err
		}
		b.version = v
	}
	if err := b.probe(ctx); err != nil {
		e := banger.Errorf(banger.HostUnready, "Firecracker needs hardware virtualisation: %w", err)
		if errors.Is(err, os.ErrPermission) {
			return vmm.Caps{}, e.WithRemedy("sudo usermod -aG kvm $USER, then log in again; or start banger-root, which lets you open it when a VM starts; without it VMs run on QEMU: --backend qemu")
		}
		return vmm.Caps{}, e.WithRemedy("banger doctor says what is missing; without it VMs run on QEMU: --backend qemu")
	}
	return vmm.Caps{
		Formats:     []banger.DiskFormat{banger.FormatRaw},
		Accelerator: accelerator, Why: "hardware virtualisation works", Version: "Firecracker v" + b.version.String(),
		NeedsTap: true, Warning: b.version.warning(),
	}, nil
}

// Start implements vmm.Backend.
func (b *Backend) Start(ctx context.Context, m vmm.Machine, launched func(banger.Handle) error) (vmm.Process, error) {
	if _, err := b.Probe(ctx); err != nil {
		return nil, err
	}
	if b.c.UID == 0 && (m.Owner == nil || m.Owner.UID == 0) {
		return nil, banger.Errorf(banger.Internal, "a VMM never runs as root: the machine has no owner")
	}
	socket := filepath.Join(m.Dir, socketName)
	if len(socket) > maxSocketPath {
		return nil, banger.Errorf(banger.HostUnready, "path of the API socket is too long (%d bytes, at most %d): %s", len(socket), maxSocketPath, socket).
			WithRemedy("set BANGER_STATE_DIR to a shorter path")
	}
	cfg, err := b.configure(m, socket)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(host.RemoveStale(socket), host.RemoveStale(vsockPath(socket))); err != nil {
		return nil, err
	}
	if err := prepareLogs(m); err != nil {
		return nil, err
	}
	release, err := b.c.KVM.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release() // its guest runs by then: the device is open
	said := host.SizeOf(m.VMMLog)
	id, err := b.c.Host.Launch(ctx, host.Cmd{
		Tool: tool, Args: argv(m, socket), Dir: "/", Owner: m.Owner, Out: m.SerialLog,
		Scope: "banger-vm-" + string(m.VM) + "-" + m.Launch,
	}, m.VMMLog)
	if err != nil {
		return nil, err
	}
	h := banger.Handle{
		Backend: name, Version: handleVersion, Launch: m.Launch, PID: id.PID, Started: id.Started,
		Socket: socket, Accelerator: accelerator,
	}
	watch, err := b.c.Watcher.Watch(id)
	if err != nil {
		return nil, errors.Join(err, host.Signal(id, unix.SIGKILL))
	}
	if err := b.begin(ctx, h, watch, cfg, launched); err != nil {
		return nil, b.failed(err, id, watch, m, said)
	}
	return b.take(h, watch, m.SerialLog), nil
}

// begin makes a process that was just launched run its guest. Nothing that it
// starts outlives it.
func (b *Backend) begin(ctx context.Context, h banger.Handle, watch host.Watch, cfg sdkConfig, launched func(banger.Handle) error) error {
	if launched != nil {
		if err := launched(h); err != nil {
			return err
		}
	}
	late, cancel := context.WithTimeoutCause(ctx, b.answer, banger.Errorf(banger.TimedOut, "Firecracker did not start its guest within %s", b.answer))
	defer cancel()
	lives, end := whileLives(late, watch.Gone)
	defer end()
	if err := reach(lives, h); err != nil {
		return becauseOf(lives, fmt.Errorf("reach Firecracker's API socket: %w", err))
	}
	// A VMM that ends now hangs up, and what it has answered before counts.
	return becauseOf(late, startGuest(late, h, cfg, b.c.Log))
}

// becauseOf is why ctx ended, if it was that which failed something.
func becauseOf(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
}

// whileLives is ctx until the VMM ends; then its cause is host.ErrGone.
func whileLives(ctx context.Context, gone <-chan struct{}) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-gone:
			cancel(host.ErrGone)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil); <-done }
}

// failed ends what a Start that failed has launched, waits until it is gone,
// and says what went wrong: the VMM's own death before what followed from it.
func (b *Backend) failed(err error, id host.ProcID, watch host.Watch, m vmm.Machine, said int64) error {
	if kerr := host.Signal(id, unix.SIGKILL); kerr == nil || errors.Is(kerr, host.ErrGone) {
		<-watch.Gone
	} else {
		err = errors.Join(err, kerr)
	}
	err = errors.Join(err, removeFile(filepath.Join(m.Dir, socketName)), removeFile(filepath.Join(m.Dir, vsockName)))
	if e := new(banger.Error); errors.As(err, &e) {
		return err
	}
	if end := watch.End(); !(end.Known && end.Sig == unix.SIGKILL) {
		return banger.Errorf(banger.Internal, "Firecracker %s at once%s", end, host.LastWords(m.VMMLog, said)).WithLog(filepath.Join(m.Dir, logName))
	}
	return err
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
