package vm

import (
	"context"

	"banger"
)

// LookAtRoom is one look.
func LookAtRoom(m *Manager) { m.lookAtRoom(context.Background()) }

// Tell makes n events up.
func Tell(m *Manager, n int) {
	for range n {
		m.feed.add(banger.VMEvent{Type: banger.VMChanged})
	}
}
