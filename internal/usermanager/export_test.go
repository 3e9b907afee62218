package usermanager

import "os"

// ForTest is a manager at socket, with proc in the place of /proc.
func ForTest(socket, proc string) *Manager {
	return &Manager{uid: os.Getuid(), socket: socket, proc: proc, linger: proc}
}
