package vm

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"banger"
)

// feedKept is how many events a daemon remembers, some 200 bytes each.
const feedKept = 4096

// A feed is what happened to all VMs, numbered. It remembers the last kept
// events; whoever comes for older ones is told that they are lost.
type feed struct {
	now  func() time.Time
	kept int

	mu      sync.Mutex
	first   int64 // number of events[0]
	events  []banger.VMEvent
	changed chan struct{} // closed and replaced at each event
	closed  bool
}

// newFeed returns a feed that begins with a number no earlier daemon has come
// to: the microseconds since 1970, which need no record and fit a JSON number.
func newFeed(now func() time.Time, kept int) *feed {
	return &feed{now: now, kept: cmp.Or(kept, feedKept), first: now().UnixMicro(), changed: make(chan struct{})}
}

func (f *feed) add(e banger.VMEvent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	e.N, e.At = f.first+int64(len(f.events)), f.now()
	if len(f.events) == 2*f.kept { // moved seldom, so that an event costs little
		f.events = slices.Clone(f.events[f.kept:])
		f.first += int64(f.kept)
	}
	f.events = append(f.events, e)
	f.wake()
}

func (f *feed) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// close ends all who follow.
func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		f.wake()
	}
}

// since returns the events from number n on, led by one that says what is lost
// if n is not among them, and the number to go on with. more is closed when
// there is more, nil if there never will be.
func (f *feed) since(n int64) (events []banger.VMEvent, next int64, more <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := f.events[max(0, len(f.events)-f.kept):]
	next = f.first + int64(len(f.events))
	oldest := next - int64(len(kept))
	if !f.closed {
		more = f.changed
	}
	switch {
	case n == 0: // all there is
	case n < oldest || n > next:
		lost := banger.VMEvent{N: oldest - 1, At: f.now(), Type: banger.VMEventsLost, Since: n}
		return append([]banger.VMEvent{lost}, kept...), next, more
	default:
		kept = kept[n-oldest:]
	}
	return slices.Clone(kept), next, more
}

// Events tells what happened to VMs, from number from on (0: all that is
// remembered), and with follow what happens, until ctx or the Manager ends.
func (m *Manager) Events(ctx context.Context, from int64, follow bool) iter.Seq[banger.VMEvent] {
	return func(yield func(banger.VMEvent) bool) {
		for {
			events, next, more := m.feed.since(from)
			for _, e := range events {
				if !yield(e) {
					return
				}
			}
			if from = next; !follow || more == nil {
				return
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			}
		}
	}
}

// EndEvents ends all who follow events: the daemon ends.
func (m *Manager) EndEvents() { m.feed.close() }

// tell says what happened to the subject.
func (s *subject) tell(t banger.VMEventType) { s.tellOf(banger.VMEvent{Type: t}) }

func (s *subject) tellOf(e banger.VMEvent) {
	e.VM, e.Name = s.rec.ID, s.rec.Spec.Name
	s.m.feed.add(e)
}
