package qemu

import (
	"net"
	"time"

	"banger/internal/vmm"
)

// Inner parts, for tests in the external package.
var (
	SocketIn = socketIn
	TSCKHz   = tscKHz
	Streams  = streams
)

// Argv is argv for a fixed TSC rate.
func Argv(m vmm.Machine, socket, accel string) ([]string, error) {
	return argv(m, socket, accel, 2_400_000)
}

// Hear reads what a VMM sent until the monitor has had enough of it, and
// returns why the guest ended, "" if that was not said.
func Hear(conn net.Conn) string {
	m := &monitor{conn: conn, ended: make(chan string, 1), lost: make(chan struct{}), pending: map[int]chan message{}}
	m.read()
	select {
	case reason := <-m.ended:
		return reason
	default:
		return ""
	}
}

// SetPatience sets how long Adopt waits for an answer.
func (b *Backend) SetPatience(d time.Duration) { b.patience = d }
