package qemu

import (
	"context"
	"sync/atomic"
	"time"

	"banger"
	"banger/internal/host"
	"banger/internal/vmm/process"
)

// quitLimit is how long QEMU may take to quit before it gets signals.
const quitLimit = 3 * time.Second

// A proc implements vmm.Process.
type proc struct {
	*process.Process
	mon    atomic.Pointer[monitor] // nil while it cannot be asked
	now    func() time.Time
	reason string // why the guest ended, "" if its VMM has not said; written before it is followed to its end
}

// take puts a VMM under control. status is its RunState if it was adopted.
func (b *Backend) take(h banger.Handle, watch host.Watch, mon *monitor, status string) *proc {
	p := &proc{Process: process.New(h, watch), now: b.now}
	p.mon.Store(mon)
	p.Follow(process.Kind{
		Name: "QEMU", End: p.quit, How: p.howEnded,
		Await: func(ctx context.Context) bool { return p.awaitGuest(ctx, status) },
	})
	return p
}

// awaitGuest waits for the guest's end, after which -no-shutdown keeps the VMM, or
// for the VMM's own.
func (p *proc) awaitGuest(ctx context.Context, status string) bool {
	if p.mon.Load() == nil {
		// It did not answer when it was adopted, as one that is stopped does
		// not. It is asked until it does: a guest's end must not go unseen.
		if mon, now, err := ask(ctx, p.Handle(), p.Gone()); err == nil {
			p.mon.Store(mon)
			status = now
		}
	}
	p.reason = p.guestEnd(ctx, status)
	return p.reason != ""
}

// guestEnd returns why the guest ended, "" if its VMM ended without a word or
// if ctx did.
func (p *proc) guestEnd(ctx context.Context, status string) string {
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
	case <-ctx.Done():
		return ""
	case <-p.Gone():
	}
	if mon == nil {
		return ""
	}
	select { // its last words may still be on their way
	case <-mon.lost:
	case <-ctx.Done():
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
func (p *proc) howEnded(killed bool) banger.Exit {
	if mon := p.mon.Load(); mon != nil {
		mon.Close()
	}
	e, reason := banger.Exit{At: p.now()}, p.reason
	switch {
	case reason == "guest-shutdown":
		e.Cause = banger.ExitGuest
	case reason == "guest-reset":
		e.Cause, e.Reboot = banger.ExitGuest, true
	case reason == "guest-panic" || reason == statusPanicked:
		e.Cause, e.Detail = banger.ExitGuest, "its kernel panicked"
	case reason == statusShutdown:
		e.Cause, e.Detail = banger.ExitGuest, "it ended while bangerd was not running"
	case killed:
		e.Cause = banger.ExitKilled
	case reason != "":
		e.Cause, e.Detail = banger.ExitUnknown, "QEMU ended: "+reason
	default:
		e.Cause, e.Detail = banger.ExitUnknown, "QEMU "+p.Ended().String()
	}
	return e
}

// Shutdown implements vmm.Process: the power button.
func (p *proc) Shutdown(ctx context.Context) error {
	mon := p.mon.Load()
	if mon == nil {
		return errLost
	}
	_, err := mon.command(ctx, "system_powerdown")
	return err
}

// quit ends the VMM, by asking it (so that it writes back what it caches of a
// disk's tables), then by signals that a reused PID is safe from. It returns
// when the VMM is gone, or when ctx ends.
func (p *proc) quit(ctx context.Context) error {
	if mon := p.mon.Load(); mon != nil {
		asked, cancel := context.WithTimeout(ctx, quitLimit)
		_, err := mon.command(asked, "quit")
		gone := err == nil && p.Awaited(asked)
		cancel()
		if gone {
			return nil
		}
	}
	return p.Signals(ctx)
}

// Close implements vmm.Process.
func (p *proc) Close() error {
	err := p.Process.Close() // first: who follows it may be about to connect
	if mon := p.mon.Load(); mon != nil {
		mon.Close()
	}
	return err
}
