package vm

import (
	"fmt"
	"time"

	"banger"
)

// A guest that starts itself again and again (its init fails, its kernel resets
// without a word of panic) is left stopped at so many within so long, as systemd
// does with a service.
const (
	rebootLimit  = 10
	rebootWindow = 10 * time.Minute
)

// mayReboot notes that a VM is to be started because its guest asked for it, and
// reports false if that came too often.
func (m *Manager) mayReboot(id banger.VMID) bool {
	now := m.c.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	at := append(m.reboots[id], now)
	for now.Sub(at[0]) > rebootWindow {
		at = at[1:]
	}
	m.reboots[id] = at
	return len(at) <= rebootLimit
}

// forgetReboots begins to count anew: somebody looks after the VM.
func (m *Manager) forgetReboots(id banger.VMID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.reboots, id)
}

// rebootsForEver is the problem of a VM whose guest does.
func rebootsForEver(name string) *banger.Problem {
	return &banger.Problem{
		Message: fmt.Sprintf("its guest rebooted more than %d times within %s: it is not started again", rebootLimit, rebootWindow),
		Remedy:  fmt.Sprintf("banger logs %[1]s may say why; banger start %[1]s", name),
	}
}
