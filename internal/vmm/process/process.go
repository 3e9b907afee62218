// Package process is what the processes of all VMMs have in common once they run:
// one goroutine that follows each to its end, waiting for that, and ending it by
// signals that a reused PID is safe from.
package process

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

// termLimit is how long a VMM may take to end by a signal.
const termLimit = 2 * time.Second

// A Kind is what differs from VMM to VMM.
type Kind struct {
	Name string // for errors
	// Await returns true once the guest has ended while its VMM lives; false when the
	// VMM has ended, or ctx.
	Await func(ctx context.Context) bool
	// End ends the VMM, and returns when it is gone or ctx ends. nil: Signals does.
	End func(ctx context.Context) error
	// How tells how it ended, once it has; killed: by Kill, or on the way to it.
	How func(killed bool) banger.Exit
}

// A Process is a running VMM under control. It has the methods of vmm.Process but
// Shutdown. Make it with New.
type Process struct {
	h     banger.Handle
	watch host.Watch
	kind  Kind

	killed   atomic.Bool
	over     chan struct{} // closed when exit is known
	exit     banger.Exit
	open     context.Context // until Close
	close    context.CancelFunc
	followed chan struct{} // closed when nobody follows it any more
}

// New returns a Process that nobody follows yet: call Follow.
func New(h banger.Handle, watch host.Watch) *Process {
	p := &Process{h: h, watch: watch, over: make(chan struct{}), followed: make(chan struct{})}
	p.open, p.close = context.WithCancel(context.Background())
	return p
}

// Follow begins to wait for its end. It is called once.
func (p *Process) Follow(k Kind) {
	if k.End == nil {
		k.End = p.Signals
	}
	p.kind = k
	go p.follow()
}

// Handle implements vmm.Process.
func (p *Process) Handle() banger.Handle { return p.h }

// Gone is closed when the VMM has ended.
func (p *Process) Gone() <-chan struct{} { return p.watch.Gone }

// Ended is how it did, once Gone is closed.
func (p *Process) Ended() host.End { return p.watch.End() }

// follow ends a VMM that stays after its guest; and records how it was.
func (p *Process) follow() {
	defer close(p.followed)
	if p.kind.Await(p.open) {
		// If it cannot be ended, whoever waits goes on waiting.
		_ = p.kind.End(p.open)
	}
	select {
	case <-p.watch.Gone:
	case <-p.open.Done():
		return
	}
	p.exit = p.kind.How(p.killed.Load())
	close(p.over)
}

// Kill implements vmm.Process.
func (p *Process) Kill(ctx context.Context) error {
	select {
	case <-p.over:
		return nil
	default:
	}
	p.killed.Store(true)
	if err := p.kind.End(ctx); err != nil {
		return err
	}
	select {
	case <-p.over:
	case <-p.followed: // closed before: nobody records it
	}
	return nil
}

// Signals ends the VMM by SIGTERM, then by SIGKILL. It returns when the VMM is gone, or
// when ctx ends.
func (p *Process) Signals(ctx context.Context) error {
	id := host.ProcID{PID: p.h.PID, Started: p.h.Started}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if ctx.Err() != nil {
			break
		}
		if err := host.Signal(id, sig); err != nil && !errors.Is(err, host.ErrGone) {
			return fmt.Errorf("end %s (PID %d): %w", p.kind.Name, p.h.PID, err)
		}
		limit, cancel := context.WithTimeout(ctx, termLimit)
		gone := p.Awaited(limit)
		cancel()
		if gone {
			return nil
		}
	}
	if p.Awaited(ctx) {
		return nil
	}
	return fmt.Errorf("%s (PID %d) does not end: %w", p.kind.Name, p.h.PID, context.Cause(ctx))
}

// Awaited waits for the VMM's end, and reports false if ctx ends before it.
func (p *Process) Awaited(ctx context.Context) bool {
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
func (p *Process) Wait(ctx context.Context) (banger.Exit, error) {
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
func (p *Process) Close() error {
	p.close()
	<-p.followed
	return nil
}
