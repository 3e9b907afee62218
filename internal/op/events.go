package op

import (
	"context"
	"iter"
	"sync"
	"time"

	"banger"
)

// maxEvents bounds what one operation keeps, whatever it reports: beyond it
// only the end is recorded.
const maxEvents = 4096

// An eventLog is the numbered events of one operation: append-only, so that a
// number means the same event to every client that ever asks.
type eventLog struct {
	now func() time.Time

	mu      sync.Mutex
	events  []banger.Event
	changed chan struct{} // closed and replaced at each append
	ended   bool
}

func newEventLog(now func() time.Time) *eventLog {
	return &eventLog{now: now, changed: make(chan struct{})}
}

// add appends e and gives it its number. After the end it does nothing: an
// operation may leave a goroutine behind that still reports.
func (l *eventLog) add(e banger.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ended || len(l.events) > maxEvents:
		return
	case len(l.events) == maxEvents:
		e = banger.Event{Type: banger.EventMessage, Message: "too many events: no more of them are kept"}
	}
	l.append(e)
}

// end appends the last event.
func (l *eventLog) end(result any, err *banger.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := banger.Event{Type: banger.EventDone, Result: result}
	if err != nil {
		e = banger.Event{Type: banger.EventFailed, Error: err}
	}
	l.append(e)
	l.ended = true
}

func (l *eventLog) append(e banger.Event) {
	e.N, e.At = len(l.events), l.now()
	l.events = append(l.events, e)
	close(l.changed)
	l.changed = make(chan struct{})
}

// since returns the events from n on, whether the log has ended, and a channel
// that is closed when there is more.
func (l *eventLog) since(n int) (events []banger.Event, ended bool, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = min(n, len(l.events))
	return l.events[n:len(l.events):len(l.events)], l.ended, l.changed
}

// Events replays an operation's events from number from on, then follows it
// until it has ended. The last pair carries an error when ctx ended first, or
// when there is no such operation (NotFound).
func (m *Manager) Events(ctx context.Context, id string, from int) iter.Seq2[banger.Event, error] {
	return func(yield func(banger.Event, error) bool) {
		o, err := m.find(id)
		if err == nil && from < 0 {
			err = banger.Errorf(banger.Invalid, "events are numbered from 0, not %d", from)
		}
		if err != nil {
			yield(banger.Event{}, err)
			return
		}
		for n := from; ; {
			events, ended, more := o.events.since(n)
			for _, e := range events {
				if !yield(e, nil) {
					return
				}
				n++
			}
			if ended {
				return
			}
			select {
			case <-more:
			case <-ctx.Done():
				yield(banger.Event{}, context.Cause(ctx))
				return
			}
		}
	}
}
