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
	"banger/internal/vmm/kvm"
)

const (
	accelKVM = "kvm"
	accelTCG = "tcg"

	name          = "qemu"
	tool          = "qemu-system-x86_64"
	handleVersion = 1
	maxSocketPath = 107 // sun_path of unix(7), less the final NUL
	// How long a QEMU may take to answer; under emulation and load, seconds.
	answerLimit = 30 * time.Second
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
	kvm     *kvm.Device
	uid     int // of the daemon
	now     func() time.Time
	// patience is how long a VMM that an earlier daemon left may keep Adopt waiting.
	patience time.Duration

	mu      sync.Mutex
	version string // "": not asked yet
	khz     int    // of the host's TSC; 0: not measured yet
}

// New returns the backend of a daemon that runs as uid.
func New(h Starter, w *host.Watcher, k *kvm.Device, uid int, now func() time.Time) *Backend {
	return &Backend{host: h, watcher: w, kvm: k, uid: uid, now: now, patience: adoptLimit}
}

// Name implements vmm.Backend.
func (b *Backend) Name() string { return name }

// Probe implements vmm.Backend. A missing program or KVM is looked for anew, so
// that an installed package or a changed permission is noticed.
func (b *Backend) Probe(ctx context.Context) (vmm.Caps, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.version == "" {
		out, err := b.host.Run(ctx, host.Cmd{Tool: tool, Args: []string{"--version"}})
		if err != nil {
			return vmm.Caps{}, err
		}
		line, _, _ := strings.Cut(string(out), "\n")
		b.version = host.Escape(line)
	}
	if b.khz == 0 {
		b.khz = tscKHz()
	}
	accel, why := accelKVM, "hardware virtualisation works"
	if err := b.kvm.Probe(ctx); err != nil {
		accel, why = accelTCG, err.Error()+"; guests are emulated in software, which is slow"
	}
	return vmm.Caps{
		Formats:     []banger.DiskFormat{banger.FormatQCOW2, banger.FormatRaw},
		Accelerator: accel, Why: why, Version: b.version, Stream: streams(b.version),
	}, nil
}

// Start implements vmm.Backend.
func (b *Backend) Start(ctx context.Context, m vmm.Machine, launched func(banger.Handle) error) (vmm.Process, error) {
	caps, err := b.Probe(ctx)
	if err != nil {
		return nil, err
	}
	if b.uid == 0 && (m.Owner == nil || m.Owner.UID == 0) {
		return nil, banger.Errorf(banger.Internal, "a VMM never runs as root: the machine has no owner")
	}
	socket := filepath.Join(m.Dir, "qmp.sock")
	if len(socket) > maxSocketPath {
		return nil, banger.Errorf(banger.HostUnready, "path of the control socket is too long (%d bytes, at most %d): %s", len(socket), maxSocketPath, socket).
			WithRemedy("set BANGER_STATE_DIR to a shorter path")
	}
	if err := host.RemoveStale(socket); err != nil {
		return nil, err
	}
	args, err := argv(m, socket, caps.Accelerator, b.khz)
	if err != nil {
		return nil, err
	}
	if err := host.MakeLog(m.SerialLog, m.Owner); err != nil {
		return nil, fmt.Errorf("open the serial log: %w", err)
	}
	cmd := host.Cmd{Tool: tool, Args: args, Dir: "/", Scope: "banger-vm-" + string(m.VM) + "-" + m.Launch, Owner: m.Owner}
	if m.Net.Tap != "" {
		tap, err := openTap(m.Net.Tap)
		if err != nil {
			return nil, err
		}
		defer tap.Close()
		cmd.Files = []*os.File{tap}
	}
	if caps.Accelerator == accelKVM {
		release, err := b.kvm.Hold(ctx)
		if err != nil {
			return nil, err
		}
		defer release() // once QEMU answers it has opened the device
	}
	said := host.SizeOf(m.VMMLog) // by earlier runs
	id, err := b.host.Launch(ctx, cmd, m.VMMLog)
	if err != nil {
		return nil, err
	}
	h := banger.Handle{
		Backend: name, Version: handleVersion, Launch: m.Launch, PID: id.PID, Started: id.Started,
		Socket: socket, Accelerator: caps.Accelerator,
	}
	watch, err := b.watcher.Watch(id)
	if err != nil {
		return nil, errors.Join(err, host.Signal(id, unix.SIGKILL))
	}
	p, err := b.begin(ctx, h, watch, launched)
	if err == nil {
		return p, nil
	}
	// A launch that failed leaves no process.
	if err := host.Signal(id, unix.SIGKILL); err == nil || errors.Is(err, host.ErrGone) {
		<-watch.Gone
	}
	if errors.Is(err, host.ErrGone) {
		e := banger.Errorf(banger.Internal, "QEMU %s at once%s", watch.End(), host.LastWords(m.VMMLog, said))
		return nil, e.WithLog(m.VMMLog)
	}
	return nil, err
}

// begin takes a process that was just launched under its control; host.ErrGone
// if it ends before that.
func (b *Backend) begin(ctx context.Context, h banger.Handle, watch host.Watch, launched func(banger.Handle) error) (*proc, error) {
	if launched != nil {
		if err := launched(h); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	mon, err := dialMonitor(ctx, h, watch.Gone)
	if err != nil {
		return nil, fmt.Errorf("reach QEMU's control socket: %w", err)
	}
	return b.take(h, watch, mon, ""), nil
}
