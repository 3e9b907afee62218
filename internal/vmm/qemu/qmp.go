package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"banger"
	"banger/internal/host"
)

// A monitor is a QMP connection: QEMU's control socket. QEMU serves one client
// at a time. The other end may be a VMM that a guest has taken over: what it
// sends is bounded and believed about its own VM only.
type monitor struct {
	conn  net.Conn
	ended chan string   // holds the first reason that was given for the guest's end
	lost  chan struct{} // closed when the connection has ended and all of it was read

	stalled atomic.Bool // the guest stands still since a disk could not be written

	mu      sync.Mutex
	next    int
	pending map[int]chan message
}

// A message is any line that QEMU sends: greeting, event or answer.
type message struct {
	Event  string          `json:"event"`
	Data   json.RawMessage `json:"data"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
	ID *int `json:"id"`
}

const (
	maxMessage = 1 << 20
	dialEvery  = 5 * time.Millisecond // at first; then ever more seldom
	dialSeldom = time.Second
	writeLimit = 5 * time.Second // a QEMU that reads nothing
)

// errLost means that a QEMU cannot be asked any more.
var errLost = errors.New("QEMU's control connection is lost")

// dialMonitor connects as soon as the socket of h's VMM answers; host.ErrGone if
// the VMM ends before that. Where the daemon is root, the socket's directory
// belongs to the VMM's user: one that a guest has taken over could lead the path
// to another VM's socket, so it is the process that counts.
func dialMonitor(ctx context.Context, h banger.Handle, gone <-chan struct{}) (*monitor, error) {
	var d net.Dialer
	for wait := dialEvery; ; wait = min(wait*5/4, dialSeldom) {
		conn, err := d.DialContext(ctx, "unix", h.Socket)
		if err == nil {
			if err = host.IsPeer(conn, h.PID); err == nil {
				return newMonitor(ctx, conn, gone)
			}
			conn.Close()
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-gone:
			timer.Stop()
			return nil, host.ErrGone
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
	}
}

func newMonitor(ctx context.Context, conn net.Conn, gone <-chan struct{}) (*monitor, error) {
	m := &monitor{conn: conn, ended: make(chan string, 1), lost: make(chan struct{}), pending: map[int]chan message{}}
	go m.read()
	// The greeting needs no waiting for: QEMU reads commands once it has sent it.
	_, err := m.command(ctx, "qmp_capabilities")
	if err == nil {
		return m, nil
	}
	m.Close()
	if errors.Is(err, errLost) {
		// A QEMU that is ending closes its socket first.
		select {
		case <-gone:
			return nil, host.ErrGone
		case <-ctx.Done():
		}
	}
	return nil, err
}

func (m *monitor) read() {
	defer close(m.lost)
	defer m.conn.Close()
	in := bufio.NewScanner(m.conn)
	in.Buffer(make([]byte, 0, 1024), maxMessage)
	for in.Scan() {
		var msg message
		if json.Unmarshal(in.Bytes(), &msg) != nil {
			return // not QMP: what follows cannot be trusted to be framed
		}
		m.dispatch(msg)
	}
}

func (m *monitor) dispatch(msg message) {
	switch msg.Event {
	case "BLOCK_IO_ERROR":
		if stops(msg) {
			m.stalled.Store(true)
		}
	case "RESUME":
		m.stalled.Store(false)
	}
	if msg.Event != "" {
		if reason := endReason(msg); reason != "" {
			select {
			case m.ended <- reason:
			default: // a guest ends once: the first reason counts
			}
		}
		return
	}
	if msg.ID == nil {
		return
	}
	m.mu.Lock()
	reply := m.pending[*msg.ID]
	delete(m.pending, *msg.ID)
	m.mu.Unlock()
	if reply != nil {
		reply <- msg
	}
}

// stops reports whether QEMU stops a guest for a BLOCK_IO_ERROR, which is not so
// where the guest itself is told.
func stops(msg message) bool {
	var data struct {
		Action string `json:"action"` // BlockErrorAction
	}
	return json.Unmarshal(msg.Data, &data) == nil && data.Action == "stop"
}

// endReason returns why a guest ended, if msg is the event that says so.
func endReason(msg message) string {
	var data struct {
		Reason string `json:"reason"` // QEMU's ShutdownCause
	}
	switch msg.Event {
	case "SHUTDOWN":
		if json.Unmarshal(msg.Data, &data) != nil || data.Reason == "" {
			return "without a reason"
		}
		return host.Escape(data.Reason)
	case "GUEST_PANICKED":
		return "guest-panic"
	}
	return ""
}

// command runs one command and returns what it returned.
func (m *monitor) command(ctx context.Context, name string) (json.RawMessage, error) {
	id, reply, err := m.send(name)
	if err != nil {
		return nil, fmt.Errorf("QMP %s: %w (%w)", name, errLost, err)
	}
	select {
	case msg := <-reply:
		return result(name, msg)
	case <-m.lost:
		select {
		case msg := <-reply: // answered, and then hung up
			return result(name, msg)
		default:
			return nil, fmt.Errorf("QMP %s: %w", name, errLost)
		}
	case <-ctx.Done():
		m.mu.Lock()
		delete(m.pending, id)
		m.mu.Unlock()
		return nil, fmt.Errorf("QMP %s: %w", name, context.Cause(ctx))
	}
}

func (m *monitor) send(name string) (id int, reply chan message, err error) {
	reply = make(chan message, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next++
	m.pending[m.next] = reply
	if err := m.conn.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return 0, nil, err
	}
	_, err = fmt.Fprintf(m.conn, "{\"execute\":%q,\"id\":%d}\n", name, m.next)
	return m.next, reply, err
}

func result(name string, msg message) (json.RawMessage, error) {
	if msg.Error != nil {
		return nil, fmt.Errorf("QMP %s: %s", name, host.Escape(msg.Error.Desc))
	}
	return msg.Return, nil
}

// status returns QEMU's RunState: "running", "shutdown", …
func (m *monitor) status(ctx context.Context) (string, error) {
	b, err := m.command(ctx, "query-status")
	if err != nil {
		return "", err
	}
	var s struct {
		Status string `json:"status"`
	}
	err = json.Unmarshal(b, &s)
	if s.Status == statusIOError {
		m.stalled.Store(true)
	}
	return s.Status, err
}

// Close ends the connection; the VMM lives on.
func (m *monitor) Close() {
	m.conn.Close()
	<-m.lost
}
