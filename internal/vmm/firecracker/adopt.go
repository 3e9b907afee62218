package firecracker

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/firecracker-microvm/firecracker-go-sdk/client/models"

	"banger"
	"banger/internal/host"
	"banger/internal/vmm"
)

// Adopt implements vmm.Backend. A VMM that lives and does not answer is adopted
// too: its end is still seen, and it can be killed. One whose guest was never
// started, since the daemon died before, is ended: it is easier made again than
// found out how much of it was configured.
func (b *Backend) Adopt(ctx context.Context, h banger.Handle) (vmm.Process, error) {
	if h.Backend != name || h.Version > handleVersion {
		return nil, banger.Errorf(banger.Internal, "no handle of this backend: %s, version %d", h.Backend, h.Version).
			WithRemedy("a newer banger launched this VM: use that one")
	}
	found, err := host.Find(host.Wanted{
		ID: host.ProcID{PID: h.PID, Started: h.Started}, Arg: marker(h.Launch), UID: b.c.UID,
		Is: func(argv []string) bool { return isLaunch(argv, h.Launch) },
	})
	if errors.Is(err, host.ErrGone) {
		return nil, vmm.ErrGone
	}
	if err != nil {
		return nil, err
	}
	watch, err := b.c.Watcher.Watch(found.ProcID)
	if errors.Is(err, host.ErrGone) {
		return nil, vmm.ErrGone
	}
	if err != nil {
		return nil, err
	}
	h.Version, h.PID, h.Started, h.Accelerator = handleVersion, found.PID, found.Started, accelerator
	if h.Socket == "" { // never recorded: it stands in the argv
		h.Socket = socketIn(found.Argv)
	}
	limited, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	asked, end := whileLives(limited, watch.Gone)
	defer end()
	state, err := b.ask(asked, h)
	switch {
	case errors.Is(context.Cause(asked), host.ErrGone):
		return nil, vmm.ErrGone
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		b.c.Log.Warn("a VMM lives and does not answer", "pid", h.PID, "err", err)
	case state == models.InstanceInfoStateNotStarted:
		return nil, b.discard(ctx, h, watch)
	}
	return b.take(h, watch, serialOf(h.PID)), nil
}

func (b *Backend) ask(ctx context.Context, h banger.Handle) (string, error) {
	if err := reach(ctx, h); err != nil {
		return "", err
	}
	return stateOf(ctx, h)
}

// discard ends a VMM without a guest.
func (b *Backend) discard(ctx context.Context, h banger.Handle, watch host.Watch) error {
	if err := host.Signal(host.ProcID{PID: h.PID, Started: h.Started}, unix.SIGKILL); err != nil && !errors.Is(err, host.ErrGone) {
		return fmt.Errorf("end a Firecracker without a guest (PID %d): %w", h.PID, err)
	}
	select {
	case <-watch.Gone:
		return vmm.ErrNoGuest
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// serialOf is where a VMM's guest is heard: its stdout, since neither handle nor
// argv say. "" where that cannot be seen.
func serialOf(pid int) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/1", pid))
	if err != nil {
		return ""
	}
	return path
}
