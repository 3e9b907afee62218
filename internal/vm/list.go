package vm

import (
	"time"

	"banger/internal/steps"
)

// A Bound returns the deadline of a step's Ensure (at BeforeEnsure) or Release
// (at BeforeRelease), given the step's own, 0 for the default. Tests let
// deadlines pass with it.
type Bound func(step string, at steps.Phase, own time.Duration) time.Duration

// Steps are the names of all steps, in the order in which they are brought up:
// what a test that breaks every one of them has to cover.
func Steps() []string {
	var names []string
	for _, s := range append(exist(), run()...) {
		names = append(names, s.Name)
	}
	return names
}

func (s *subject) exist() []steps.Step[*subject] { return s.m.bounded(exist()) }

func (s *subject) run() []steps.Step[*subject] { return s.m.bounded(run()) }

// bounded sets a list's deadlines.
func (m *Manager) bounded(list []steps.Step[*subject]) []steps.Step[*subject] {
	for i := range list {
		s := &list[i]
		if s.Name == stepGuest {
			// ensureGuest keeps the real one, and says what its last attempt met.
			s.Limit = m.c.Timeouts.Ready + steps.DefaultGrace
		}
		if m.c.Bound != nil {
			s.Limit = m.c.Bound(s.Name, steps.BeforeEnsure, s.Limit)
			s.Grace = m.c.Bound(s.Name, steps.BeforeRelease, s.Grace)
		}
	}
	return list
}
