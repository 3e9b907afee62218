package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/host"
)

// How long QEMU may take to quit, and to end by SIGTERM, before SIGKILL.
const (
	quitLimit = 3 * time.Second
	termLimit = 2 * time.Second
)

// A process implements vmm.Process.
type process struct {
	b      *Backend
	h      banger.Handle
	watch  host.Watch
	mon    *monitor // nil: it cannot be asked
	reason string   // why its guest ended, if that came before us

	killed  atomic.Bool
	over    chan struct{} // closed when exit is known
	exit    banger.Exit
	closing sync.Once
	closed  chan struct{}
}

// take puts a VMM under control. status is its RunState if it was adopted.
func (b *Backend) take(h banger.Handle, watch host.Watch, mon *monitor, status string) *process {
	p := &process{b: b, h: h, watch: watch, mon: mon, over: make(chan struct{}), closed: make(chan struct{})}
	if status == "shutdown" || status == "guest-panicked" {
		p.reason = status // nobody listened when it did
	}
	go p.follow()
	return p
}

// Handle implements vmm.Process.
func (p *process) Handle() banger.Handle { return p.h }

// follow waits for the guest's end and then ends the VMM, which -no-shutdown
// keeps; or for the VMM's own end.
func (p *process) follow() {
	var events chan event
	var lost chan struct{}
	if p.mon != nil {
		events, lost = p.mon.events, p.mon.lost
	}
	reason := p.reason
	for reason == "" {
		select {
		case e := <-events:
			reason = e.reason
		case <-lost:
			lost = nil // it is ending, or cannot be asked any more
			select {
			case e := <-events:
				reason = e.reason
			default:
			}
		case <-p.watch.Gone:
			p.finish("")
			return
		case <-p.closed:
			return
		}
	}
	p.quit(context.Background())
	p.finish(reason)
}

// finish records how the run ended.
func (p *process) finish(reason string) {
	p.exit = p.ended(reason)
	close(p.over)
	if p.mon != nil {
		p.mon.Close()
	}
}

// ended derives an Exit from QEMU's ShutdownCause, or from the process's end.
func (p *process) ended(reason string) banger.Exit {
	e := banger.Exit{At: p.b.now()}
	switch {
	case p.killed.Load():
		e.Cause = banger.ExitKilled
	case reason == "guest-shutdown":
		e.Cause = banger.ExitGuest
	case reason == "guest-reset":
		e.Cause, e.Reboot = banger.ExitGuest, true
	case reason == "guest-panic" || reason == "guest-panicked":
		e.Cause, e.Detail = banger.ExitGuest, "its kernel panicked"
	case reason == "shutdown":
		e.Cause, e.Detail = banger.ExitGuest, "it ended while bangerd was not running"
	case reason != "":
		e.Cause, e.Detail = banger.ExitUnknown, reason
	default:
		e.Cause, e.Detail = banger.ExitUnknown, "QEMU "+describe(p.watch.End())
	}
	return e
}

// describe says how a process ended.
func describe(end host.End) string {
	switch {
	case !end.Known:
		return "ended; its status is not known"
	case end.Sig != 0:
		return "was ended by " + unix.SignalName(end.Sig)
	}
	return fmt.Sprintf("exited with code %d", end.Code)
}

// Shutdown implements vmm.Process: the power button.
func (p *process) Shutdown(ctx context.Context) error {
	if p.mon == nil {
		return errLost
	}
	_, err := p.mon.command(ctx, "system_powerdown", nil)
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
	<-p.over
	return nil
}

// quit ends the VMM, by asking it, then by signals, and returns when it is
// gone. It is safe against a reused PID.
func (p *process) quit(ctx context.Context) error {
	if p.mon != nil {
		asked, cancel := context.WithTimeout(ctx, quitLimit)
		_, err := p.mon.command(asked, "quit", nil)
		gone := err == nil && p.gone(asked)
		cancel()
		if gone {
			return nil
		}
	}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		err := host.Signal(host.ProcID{PID: p.h.PID, Started: p.h.Started}, sig)
		if err != nil && !errors.Is(err, host.ErrGone) {
			return err
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
	case <-ctx.Done():
		return banger.Exit{}, context.Cause(ctx)
	}
}

// Close implements vmm.Process.
func (p *process) Close() error {
	p.closing.Do(func() { close(p.closed) })
	if p.mon != nil {
		p.mon.Close()
	}
	return nil
}

// lastWords returns the end of QEMU's own log, for an error's message.
func lastWords(log string) string {
	f, err := os.Open(log)
	if err != nil {
		return ""
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return ""
	}
	const most = 600
	b := make([]byte, min(st.Size(), most))
	if _, err := f.ReadAt(b, st.Size()-int64(len(b))); err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	last := lines[max(0, len(lines)-2):]
	for i := range last {
		last[i] = host.Escape(last[i])
	}
	if said := strings.Join(last, "; "); said != "" {
		return ": " + said
	}
	return ""
}
