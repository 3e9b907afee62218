package op

import (
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
	}, nil
}

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
	slices.SortFunc(busy, func(a, b Info) int { return a.StartedAt.Compare(b.StartedAt) })
	m.draining = m.draining || len(busy) == 0
	return busy
}
