package firecracker

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/guestapi"
	"banger/internal/host"
	"banger/internal/vmm"
)

const (
	termLimit   = 2 * time.Second // that a Firecracker may take to end by a signal
	buttonLimit = 5 * time.Second // and to take a request
)

// A process implements vmm.Process.
type process struct {
	h       banger.Handle
	watch   host.Watch
	console string // the serial log
	now     func() time.Time

	killed   atomic.Bool
	over     chan struct{} // closed when exit is known
	exit     banger.Exit
	open     context.Context // until Close
	close    context.CancelFunc
	followed chan struct{} // closed when nobody follows it any more
}

var _ vmm.Talker = (*process)(nil)

// take puts a VMM under control.
func (b *Backend) take(h banger.Handle, watch host.Watch, console string) *process {
	p := &process{h: h, watch: watch, console: console, now: b.c.Now, over: make(chan struct{}), followed: make(chan struct{})}
	p.open, p.close = context.WithCancel(context.Background())
	go p.follow()
	return p
}

// Handle implements vmm.Process.
func (p *process) Handle() banger.Handle { return p.h }

// follow waits for the VMM's end, or for the guest's if it halts, after which
// it ends the VMM; and records how it was.
func (p *process) follow() {
	defer close(p.followed)
	ctx, end := whileLives(p.open, p.watch.Gone)
	defer end()
	halted := awaitHalt(ctx, p.console, p.h.Launch)
	if halted {
		// If it cannot be ended, whoever waits goes on waiting.
		_ = p.end(p.open)
	}
	select {
	case <-p.watch.Gone:
	case <-p.open.Done():
		return
	}
	p.exit = howEnded(p.watch.End(), consoleOf(p.console, p.h.Launch, maxTail), p.h.Launch, halted, p.killed.Load())
	p.exit.At = p.now()
	close(p.over)
}

// howEnded derives an Exit from the process's end and the guest's last words.
// Firecracker exits with 0 when a guest resets itself, and only then; the guest
// program ends a machine in no other way, and says before what was meant.
func howEnded(end host.End, console, launch string, halted, killed bool) banger.Exit {
	said := guestapi.ParseExitMarker(console, launch)
	reset := end.Known && end.Sig == 0 && end.Code == 0 || !end.Known && (said != "" || restarted.MatchString(console) || panicked.MatchString(console))
	switch {
	case halted:
		return banger.Exit{Cause: banger.ExitGuest}
	case reset && said != "":
		return banger.Exit{Cause: banger.ExitGuest, Reboot: said == "reboot"}
	case reset && panicked.MatchString(console):
		return banger.Exit{Cause: banger.ExitGuest, Detail: "its kernel panicked"}
	case reset:
		return banger.Exit{Cause: banger.ExitGuest, Reboot: true}
	case killed:
		return banger.Exit{Cause: banger.ExitKilled}
	}
	return banger.Exit{Cause: banger.ExitUnknown, Detail: "Firecracker " + end.String()}
}

// Shutdown implements vmm.Process: Ctrl-Alt-Del.
func (p *process) Shutdown(ctx context.Context) error {
	select {
	case <-p.watch.Gone:
		return fmt.Errorf("press Ctrl-Alt-Del: %w", host.ErrGone)
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, buttonLimit)
	defer cancel()
	ctx, end := whileLives(ctx, p.watch.Gone)
	defer end()
	err := becauseOf(ctx, pressButton(ctx, p.h))
	if err != nil && !errors.Is(err, host.ErrGone) { // it ended, if perhaps before it answered
		return fmt.Errorf("press Ctrl-Alt-Del: %w", err)
	}
	return nil
}

// Kill implements vmm.Process.
func (p *process) Kill(ctx context.Context) error {
	select {
	case <-p.over:
		return nil
	default:
	}
	p.killed.Store(true)
	if err := p.end(ctx); err != nil {
		return err
	}
	select {
	case <-p.over:
	case <-p.followed: // closed before: nobody records it
	}
	return nil
}

// end ends the VMM by signals that a reused PID is safe from. It returns when
// the VMM is gone, or when ctx ends.
func (p *process) end(ctx context.Context) error {
	id := host.ProcID{PID: p.h.PID, Started: p.h.Started}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if ctx.Err() != nil {
			break
		}
		if err := host.Signal(id, sig); err != nil && !errors.Is(err, host.ErrGone) {
			return fmt.Errorf("end Firecracker (PID %d): %w", p.h.PID, err)
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
	return fmt.Errorf("the VMM (PID %d) does not end: %w", p.h.PID, context.Cause(ctx))
}

// gone waits for the VMM's end, and reports false if ctx ends before it.
func (p *process) gone(ctx context.Context) bool {
	select {
	case <-p.watch.Gone:
		return true
	default:
	}
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

// CutLogs implements vmm.Talker.
func (p *process) CutLogs(limit int64) error {
	dir := filepath.Dir(p.h.Socket)
	return errors.Join(cutFile(filepath.Join(dir, logName), limit), cutFile(filepath.Join(dir, metricsName), limit))
}

// Close implements vmm.Process.
func (p *process) Close() error {
	p.close()
	<-p.followed
	return nil
}
