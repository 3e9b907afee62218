package vm

import (
	"banger"
)

// LookAtRoom is one look.
func LookAtRoom(m *Manager) { m.lookAtRoom(m.ctx) }

// Tell makes n events up.
func Tell(m *Manager, n int) {
	for range n {
		m.feed.add(banger.VMEvent{Type: banger.VMChanged})
	}
}
