package vm

import "banger"

// Tell makes n events up.
func Tell(m *Manager, n int) {
	for range n {
		m.feed.add(banger.VMEvent{Type: banger.VMChanged})
	}
}
