package qemu

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/host"
)

// How long QEMU may take to quit, and to end by each signal.
const (
	quitLimit = 3 * time.Second
	termLimit = 2 * time.Second
)

// A process implements vmm.Process.
type process struct {
	h     banger.Handle
	watch host.Watch
	mon   atomic.Pointer[monitor] // nil while it cannot be asked
	now   func() time.Time

	killed   atomic.Bool
	over     chan struct{} // closed when exit is known
	exit     banger.Exit
	open     context.Context // until Close
	close    context.CancelFunc
	followed chan struct{} // closed when nobody follows it any more
}

// take puts a VMM under control. status is its RunState if it was adopted.
func (b *Backend) take(h banger.Handle, watch host.Watch, mon *monitor, status string) *process {
	p := &process{h: h, watch: watch, now: b.now, over: make(chan struct{}), followed: make(chan struct{})}
	p.mon.Store(mon)
	p.open, p.close = context.WithCancel(context.Background())
	go p.follow(status)
	return p
}

// Handle implements vmm.Process.
func (p *process) Handle() banger.Handle { return p.h }

// follow waits for the guest's end, after which it ends the VMM that
// -no-shutdown keeps, or for the VMM's own; and records how it was.
func (p *process) follow(status string) {
	defer close(p.followed)
	if p.mon.Load() == nil {
		// It did not answer when it was adopted, as one that is stopped does
		// not. It is asked until it does: a guest's end must not go unseen.
		if mon, now, err := ask(p.open, p.h, p.watch.Gone); err == nil {
			p.mon.Store(mon)
			status = now
		}
	}
	reason := p.guestEnd(status)
	if reason != "" {
		// If it cannot be ended, whoever waits goes on waiting.
		_ = p.quit(p.open)
	}
	select {
	case <-p.watch.Gone:
	case <-p.open.Done():
		return
	}
	p.exit = p.howEnded(reason)
	close(p.over)
	if mon := p.mon.Load(); mon != nil {
		mon.Close()
	}
}

// guestEnd returns why the guest ended, "" if its VMM ended without a word or
// if p was closed.
func (p *process) guestEnd(status string) string {
	var said <-chan string
	mon := p.mon.Load()
	if mon != nil {
		said = mon.ended
	}
	if status == statusShutdown || status == statusPanicked {
		select {
		case reason := <-said: // it ended while it was being adopted
			return reason
		default:
			return status
		}
	}
	select {
	case reason := <-said:
		return reason
	case <-p.open.Done():
		return ""
	case <-p.watch.Gone:
	}
	if mon == nil {
		return ""
	}
	select { // its last words may still be on their way
	case <-mon.lost:
	case <-p.open.Done():
	}
	select {
	case reason := <-said:
		return reason
	default:
		return ""
	}
}

// RunStates of QEMU: two that mean that the guest has ended, and that of one that
// stands still since a disk could not be written.
const (
	statusShutdown = "shutdown"
	statusPanicked = "guest-panicked"
	statusIOError  = "io-error"
)

// howEnded derives an Exit from QEMU's ShutdownCause, from the RunState in
// which it was found, or from the process's end.
func (p *process) howEnded(reason string) banger.Exit {
	e := banger.Exit{At: p.now()}
	switch {
	case reason == "guest-shutdown":
		e.Cause = banger.ExitGuest
	case reason == "guest-reset":
		e.Cause, e.Reboot = banger.ExitGuest, true
	case reason == "guest-panic" || reason == statusPanicked:
		e.Cause, e.Detail = banger.ExitGuest, "its kernel panicked"
	case reason == statusShutdown:
		e.Cause, e.Detail = banger.ExitGuest, "it ended while bangerd was not running"
	case p.killed.Load():
		e.Cause = banger.ExitKilled
	case reason != "":
		e.Cause, e.Detail = banger.ExitUnknown, "QEMU ended: "+reason
	default:
		e.Cause, e.Detail = banger.ExitUnknown, "QEMU "+p.watch.End().String()
	}
	return e
}

// Shutdown implements vmm.Process: the power button.
func (p *process) Shutdown(ctx context.Context) error {
	mon := p.mon.Load()
	if mon == nil {
		return errLost
	}
	_, err := mon.command(ctx, "system_powerdown")
	return err
}

// Kill implements vmm.Process.
func (p *process) Kill(ctx context.Context) error {
	select {
	case <-p.over:
		return nil
	default:
	}
	p.killed.Store(true)
	if err := p.quit(ctx); err != nil {
		return err
	}
	select {
	case <-p.over:
	case <-p.followed: // closed before: nobody records it
	}
	return nil
}

// quit ends the VMM, by asking it (so that it writes back what it caches of a
// disk's tables), then by signals that a reused PID is safe from. It returns
// when the VMM is gone, or when ctx ends.
func (p *process) quit(ctx context.Context) error {
	if mon := p.mon.Load(); mon != nil {
		asked, cancel := context.WithTimeout(ctx, quitLimit)
		_, err := mon.command(asked, "quit")
		gone := err == nil && p.gone(asked)
		cancel()
		if gone {
			return nil
		}
	}
	id := host.ProcID{PID: p.h.PID, Started: p.h.Started}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if ctx.Err() != nil {
			break
		}
		if err := host.Signal(id, sig); err != nil && !errors.Is(err, host.ErrGone) {
			return fmt.Errorf("end QEMU (PID %d): %w", p.h.PID, err)
		}
		limit, cancel := context.WithTimeout(ctx, termLimit)
		gone := p.gone(limit)
		cancel()
		if gone {
			return nil
		}
	}
	if p.gone(ctx) {
		return nil
	}
	return fmt.Errorf("QEMU (PID %d) does not end: %w", p.h.PID, context.Cause(ctx))
}

// gone waits for the VMM's end, and reports false if ctx ends before it.
func (p *process) gone(ctx context.Context) bool {
	select {
	case <-p.watch.Gone:
		return true
	case <-ctx.Done():
		return false
	}
}

// Wait implements vmm.Process.
func (p *process) Wait(ctx context.Context) (banger.Exit, error) {
	select {
	case <-p.over:
		return p.exit, nil
	default:
	}
	select {
	case <-p.over:
		return p.exit, nil
	case <-p.followed:
		select {
		case <-p.over:
			return p.exit, nil
		default:
			return banger.Exit{}, errClosed
		}
	case <-ctx.Done():
		return banger.Exit{}, context.Cause(ctx)
	}
}

var errClosed = errors.New("the VMM is no longer followed")

// Close implements vmm.Process.
func (p *process) Close() error {
	p.close()
	<-p.followed // who may be about to connect
	if mon := p.mon.Load(); mon != nil {
		mon.Close()
	}
	return nil
}
