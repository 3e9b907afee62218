package op

import (
	"context"
	"fmt"
	"slices"

	"banger"
)

// A stream is what a client follows without an operation: a command's streams,
// a log. It ends with its client.
type stream struct{ Info }

// Attach notes a stream that begins, until leave is called. It is refused with
// Busy once Drain or Seal was.
func (m *Manager) Attach(kind, subject string) (leave func(), err error) {
	s := &stream{Info{Kind: kind, Subject: subject, StartedAt: m.now()}}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.draining {
		return nil, shuttingDown()
	}
	m.streams[s] = true
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.streams, s)
		close(m.left)
		m.left = make(chan struct{})
	}, nil
}

// Streams returns the streams under way, oldest first.
func (m *Manager) Streams() []Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := []Info{}
	for s := range m.streams {
		l = append(l, s.Info)
	}
	slices.SortFunc(l, byStart)
	return l
}

// Ending is closed when those who follow streams shall be told that the daemon
// ends, and let go.
func (m *Manager) Ending() <-chan struct{} { return m.ending }

// EndStreams closes Ending and waits until the last stream was left, or ctx ends.
func (m *Manager) EndStreams(ctx context.Context) error {
	m.endOnce.Do(func() { close(m.ending) })
	for {
		m.mu.Lock()
		n, left := len(m.streams), m.left
		m.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-left:
		case <-ctx.Done():
			return fmt.Errorf("%d streams did not end: %w", n, context.Cause(ctx))
		}
	}
}

func byStart(a, b Info) int { return a.StartedAt.Compare(b.StartedAt) }

func shuttingDown() error {
	return banger.Errorf(banger.Busy, "the daemon is shutting down").WithRemedy("try again")
}

// Seal refuses everything new from now on, unless something is under way that
// counts: then it returns that, oldest first, and changes nothing.
func (m *Manager) Seal(counts func(Info) bool) (busy []Info) {
	m.mu.Lock()
	defer m.mu.Unlock()
	busy = m.underWay()
	for s := range m.streams {
		busy = append(busy, s.Info)
	}
	busy = slices.DeleteFunc(busy, func(i Info) bool { return !counts(i) })
	slices.SortFunc(busy, byStart)
	m.draining = m.draining || len(busy) == 0
	return busy
}
