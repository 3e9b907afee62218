// Package op runs operations that outlive the request that asked for them: an
// operation belongs to the daemon, any number of clients follow its numbered
// events from any number on, and none of them stops it by going away. It knows
// nothing of what an operation does.
package op

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"banger"
)

// keepFinished is how many ended operations can still be asked about: a client
// that lost its connection may come back for the result.
const keepFinished = 256

// A Func is the work of an operation. ctx ends when the operation is cancelled,
// never because a client went away; the result is what a client gets as JSON.
type Func func(ctx context.Context, r *Reporter) (result any, err error)

// A Manager runs operations. Make one with New.
type Manager struct {
	log *slog.Logger
	now func() time.Time

	mu       sync.Mutex
	ops      map[string]*operation
	finished []string // IDs, oldest first
	streams  map[*stream]bool
	left     chan struct{} // closed and replaced whenever a stream was left
	running  int
	idle     chan struct{} // closed while nothing runs
	draining bool

	endOnce sync.Once
	ending  chan struct{} // see Ending
}

// An Info describes an operation under way.
type Info struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"`    // as the API names it, "vm.create"
	Subject   string    `json:"subject"` // what it is done to, for people
	StartedAt time.Time `json:"started_at"`
}

type operation struct {
	Info
	cancel context.CancelCauseFunc
	events *eventLog
}

// errCanceled is the cause of a cancelled operation's context.
var errCanceled = &banger.Error{Code: banger.Canceled, Message: "canceled", Err: context.Canceled}

// New returns a Manager that logs to log and reads the time from now.
func New(log *slog.Logger, now func() time.Time) *Manager {
	idle := make(chan struct{})
	close(idle)
	return &Manager{
		log: log, now: now, ops: map[string]*operation{}, idle: idle,
		streams: map[*stream]bool{}, left: make(chan struct{}), ending: make(chan struct{}),
	}
}

// Start runs fn in the background and returns the operation's ID. It is refused
// with Busy once Drain or Seal was.
func (m *Manager) Start(kind, subject string, fn Func) (id string, err error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	o := &operation{
		Info:   Info{ID: newID(), Kind: kind, Subject: subject, StartedAt: m.now()},
		cancel: cancel,
		events: newEventLog(m.now),
	}
	if err := m.admit(o); err != nil {
		cancel(err)
		return "", err
	}
	go m.run(ctx, o, fn)
	return o.ID, nil
}

func (m *Manager) admit(o *operation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.draining {
		return shuttingDown()
	}
	if m.running == 0 {
		m.idle = make(chan struct{})
	}
	m.running++
	m.ops[o.ID] = o
	return nil
}

// run calls fn and records how it ended. A panic, or a Goexit, becomes an
// Internal failure: one broken operation must not end the daemon that other VMs
// depend on.
func (m *Manager) run(ctx context.Context, o *operation, fn Func) {
	log := m.log.With("op", o.ID, "kind", o.Kind, "subject", o.Subject)
	log.Info("operation started")
	var result any
	var err error
	returned := false
	defer func() {
		if !returned {
			p := recover()
			log.Error("operation panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = banger.Errorf(banger.Internal, "%s of %s broke off: %v", o.Kind, o.Subject, p).
				WithRemedy("banger daemon logs")
		}
		o.cancel(nil)
		m.end(log, o, result, err)
	}()
	result, err = fn(ctx, &Reporter{log: o.events, slog: log})
	returned = true
}

func (m *Manager) end(log *slog.Logger, o *operation, result any, err error) {
	elapsed := m.now().Sub(o.StartedAt)
	if err != nil {
		log.Warn("operation failed", "elapsed", elapsed, "code", banger.CodeOf(err), "err", err)
	} else {
		log.Info("operation done", "elapsed", elapsed)
	}
	o.events.end(result, banger.AsError(err))
	m.ended(o.ID)
}

func (m *Manager) ended(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finished = append(m.finished, id)
	if len(m.finished) > keepFinished {
		delete(m.ops, m.finished[0])
		m.finished = slices.Delete(m.finished, 0, 1)
	}
	if m.running--; m.running == 0 {
		close(m.idle)
	}
}

// Cancel asks an operation to stop and does not wait for it; its end comes as
// an event. Cancelling one that has ended does nothing.
func (m *Manager) Cancel(id string) error {
	o, err := m.find(id)
	if err != nil {
		return err
	}
	o.cancel(errCanceled)
	return nil
}

// List returns the operations under way, oldest first.
func (m *Manager) List() []Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.underWay()
	slices.SortFunc(l, byStart)
	return l
}

// underWay is List, in no order. m.mu is held.
func (m *Manager) underWay() (l []Info) {
	for _, o := range m.ops {
		if !slices.Contains(m.finished, o.ID) {
			l = append(l, o.Info)
		}
	}
	return l
}

// Drain refuses new operations from now on and waits until none runs. When ctx
// ends first, it cancels what is left, waits for that too, and returns ctx's
// error.
func (m *Manager) Drain(ctx context.Context) error {
	m.mu.Lock()
	m.draining = true
	idle := m.idle
	m.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
	}
	left := m.List()
	for _, i := range left {
		// it may have ended and been forgotten meanwhile: nothing to cancel
		if err := m.Cancel(i.ID); err != nil && banger.CodeOf(err) != banger.NotFound {
			return err
		}
	}
	<-idle
	return fmt.Errorf("%d operations canceled: %w", len(left), context.Cause(ctx))
}

func (m *Manager) find(id string) (*operation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.ops[id]; o != nil {
		return o, nil
	}
	return nil, banger.Errorf(banger.NotFound, "no operation %q: unknown, or ended long ago", id)
}

func newID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b[:])
}

// Canceled reports whether ctx is that of an operation that Cancel ended.
func Canceled(ctx context.Context) bool { return errors.Is(context.Cause(ctx), errCanceled) }
