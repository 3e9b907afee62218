// Package qemu runs VMs on QEMU's microvm machine: with KVM where it really
// works, else emulated in software (TCG).
package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/host"
	"banger/internal/vmm"
)

const (
	name          = "qemu"
	tool          = "qemu-system-x86_64"
	handleVersion = 1
	maxSocketPath = 107 // sun_path of unix(7), less the final NUL
)

// A Starter is what the backend needs of the host.
type Starter interface {
	host.Runner
	host.Launcher
}

// A Backend implements vmm.Backend.
type Backend struct {
	host    Starter
	watcher *host.Watcher
	uid     int // of the daemon
	now     func() time.Time

	mu   sync.Mutex
	caps *vmm.Caps // of a probe that succeeded
}

// New returns the backend of a daemon that runs as uid.
func New(h Starter, w *host.Watcher, uid int, now func() time.Time) *Backend {
	return &Backend{host: h, watcher: w, uid: uid, now: now}
}

// Name implements vmm.Backend.
func (b *Backend) Name() string { return name }

// Probe implements vmm.Backend. What it found is kept; a failure is not, so
// that an installed package is noticed.
func (b *Backend) Probe(ctx context.Context) (vmm.Caps, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.caps != nil {
		return *b.caps, nil
	}
	out, err := b.host.Run(ctx, host.Cmd{Tool: tool, Args: []string{"--version"}})
	if err != nil {
		return vmm.Caps{}, err
	}
	version, _, _ := strings.Cut(string(out), "\n")
	accel, why := accelerator(b.uid)
	b.caps = &vmm.Caps{
		Formats:     []banger.DiskFormat{banger.FormatQCOW2, banger.FormatRaw},
		Accelerator: accel, Why: why, Version: host.Escape(version),
	}
	return *b.caps, nil
}

// Start implements vmm.Backend.
func (b *Backend) Start(ctx context.Context, m vmm.Machine, launched func(banger.Handle) error) (vmm.Process, error) {
	caps, err := b.Probe(ctx)
	if err != nil {
		return nil, err
	}
	if b.uid == 0 && m.Owner == nil {
		return nil, banger.Errorf(banger.Internal, "a VMM never runs as root")
	}
	socket := filepath.Join(m.Dir, "qmp.sock")
	if len(socket) > maxSocketPath {
		return nil, banger.Errorf(banger.HostUnready, "path of the control socket is too long (%d bytes, at most %d): %s", len(socket), maxSocketPath, socket).
			WithRemedy("set BANGER_STATE_DIR to a shorter path")
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove a stale control socket: %w", err)
	}
	args, err := argv(m, socket, caps.Accelerator)
	if err != nil {
		return nil, err
	}
	if err := touch(m.SerialLog, m.Owner); err != nil {
		return nil, fmt.Errorf("serial log: %w", err)
	}
	id, err := b.host.Launch(ctx, host.Cmd{Tool: tool, Args: args, Dir: "/", Owner: m.Owner}, m.VMMLog)
	if err != nil {
		return nil, err
	}
	h := banger.Handle{
		Backend: name, Version: handleVersion, Launch: m.Launch, PID: id.PID, Started: id.Started,
		Socket: socket, Accelerator: caps.Accelerator,
	}
	p, err := b.begin(ctx, h, m.VMMLog, launched)
	if err != nil {
		return nil, errors.Join(err, b.end(id))
	}
	return p, nil
}

// begin takes a process that was just launched under its control.
func (b *Backend) begin(ctx context.Context, h banger.Handle, log string, launched func(banger.Handle) error) (*process, error) {
	watch, err := b.watcher.Watch(host.ProcID{PID: h.PID, Started: h.Started})
	if err != nil {
		return nil, err
	}
	if launched != nil {
		if err := launched(h); err != nil {
			return nil, err
		}
	}
	mon, err := dialMonitor(ctx, h.Socket, watch.Gone)
	if errors.Is(err, host.ErrGone) {
		return nil, earlyDeath(watch.End(), log)
	}
	if err != nil {
		return nil, fmt.Errorf("reach QEMU's control socket: %w", err)
	}
	return b.take(h, watch, mon, ""), nil
}

// earlyDeath is the error of a VMM that ended before it answered.
func earlyDeath(end host.End, log string) error {
	e := banger.Errorf(banger.Internal, "QEMU ended at once (%s)%s", describe(end), lastWords(log)).WithLog(log)
	return e.WithRemedy("banger doctor checks the host")
}

// end makes sure that a launch that failed leaves no process.
func (b *Backend) end(id host.ProcID) error {
	watch, err := b.watcher.Watch(id)
	if errors.Is(err, host.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := host.Signal(id, unix.SIGKILL); err != nil && !errors.Is(err, host.ErrGone) {
		return err
	}
	<-watch.Gone
	return nil
}

// Adopt implements vmm.Backend.
func (b *Backend) Adopt(ctx context.Context, h banger.Handle) (vmm.Process, error) {
	found, err := b.find(h)
	if err != nil {
		return nil, err
	}
	watch, err := b.watcher.Watch(found.ProcID)
	if errors.Is(err, host.ErrGone) {
		return nil, vmm.ErrGone
	}
	if err != nil {
		return nil, err
	}
	h.PID, h.Started, h.Version = found.PID, found.Started, handleVersion
	// What was never recorded stands in its argv.
	h.Socket, h.Accelerator = socketIn(found.Argv), acceleratorIn(found.Argv)
	ctx, cancel := context.WithTimeout(ctx, adoptLimit)
	defer cancel()
	mon, err := dialMonitor(ctx, h.Socket, watch.Gone)
	if errors.Is(err, host.ErrGone) {
		return nil, vmm.ErrGone
	}
	if err != nil {
		// It lives and cannot be asked: its end is still seen, and it can be killed.
		return b.take(h, watch, nil, ""), nil
	}
	status, err := mon.status(ctx)
	if err != nil {
		mon.Close()
		return b.take(h, watch, nil, ""), nil
	}
	return b.take(h, watch, mon, status), nil
}

// adoptLimit bounds how long a VMM that an earlier daemon left may take to
// answer; under emulation and load, seconds.
const adoptLimit = 10 * time.Second

// find proves the identity of the VMM that h stands for: PID and start time,
// and the launch ID in its argv.
func (b *Backend) find(h banger.Handle) (host.Proc, error) {
	marker := marker(h.Launch)
	if h.PID != 0 {
		p, err := host.Inspect(host.ProcID{PID: h.PID, Started: h.Started})
		if err == nil && has(p.Argv, marker) {
			return p, nil
		}
		return host.Proc{}, vmm.ErrGone
	}
	all, err := host.FindByArg(marker)
	if err != nil {
		return host.Proc{}, err
	}
	for _, p := range all {
		// Root's daemon has users of its own for its VMs.
		if p.UID == b.uid || b.uid == 0 {
			return p, nil
		}
	}
	return host.Proc{}, vmm.ErrGone
}

func touch(path string, o *banger.Owner) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if o != nil {
		err = f.Chown(int(o.UID), int(o.GID))
	}
	return errors.Join(err, f.Close())
}
