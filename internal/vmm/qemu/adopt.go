package qemu

import (
	"context"
	"errors"
	"time"

	"banger"
	"banger/internal/host"
	"banger/internal/vmm"
)

// adoptLimit is the usual patience: answers take seconds under emulation and load.
const adoptLimit = 10 * time.Second

// Adopt implements vmm.Backend. A VMM that lives and does not answer is adopted
// too: its end is still seen, it can be killed, and it is asked on.
func (b *Backend) Adopt(ctx context.Context, h banger.Handle) (vmm.Process, error) {
	if h.Backend != name || h.Version > handleVersion {
		return nil, banger.Errorf(banger.Internal, "no handle of this backend: %s, version %d", h.Backend, h.Version).
			WithRemedy("a newer banger launched this VM: use that one")
	}
	found, err := host.Find(host.Wanted{
		ID: host.ProcID{PID: h.PID, Started: h.Started}, Arg: marker(h.Launch), UID: b.uid,
		Is: func(argv []string) bool { return isLaunch(argv, h.Launch) },
	})
	if errors.Is(err, host.ErrGone) {
		return nil, vmm.ErrGone
	}
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
	h.Version, h.PID, h.Started = handleVersion, found.PID, found.Started
	if h.Socket == "" { // never recorded: it stands in the argv
		h.Socket, h.Accelerator = socketIn(found.Argv), acceleratorIn(found.Argv)
	}
	limited, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	mon, status, err := ask(limited, h, watch.Gone)
	switch {
	case errors.Is(err, host.ErrGone):
		return nil, vmm.ErrGone
	case ctx.Err() != nil:
		if mon != nil {
			mon.Close()
		}
		return nil, context.Cause(ctx)
	}
	return b.take(h, watch, mon, status), nil
}

// ask connects to a VMM and asks for its RunState.
func ask(ctx context.Context, h banger.Handle, gone <-chan struct{}) (*monitor, string, error) {
	mon, err := dialMonitor(ctx, h, gone)
	if err != nil {
		return nil, "", err
	}
	status, err := mon.status(ctx)
	if err != nil {
		mon.Close()
		return nil, "", err
	}
	return mon, status, nil
}
