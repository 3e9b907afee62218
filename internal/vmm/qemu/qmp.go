package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"banger/internal/host"
)

// A monitor is a QMP connection: QEMU's control socket. QEMU serves one client
// at a time. The other end may be a VMM that a guest has taken over: what it
// sends is bounded and believed about its own VM only.
type monitor struct {
	conn   net.Conn
	events chan event    // shutdown events; holds the few there can be
	lost   chan struct{} // closed when the connection has ended

	mu      sync.Mutex
	next    int
	pending map[int]chan message
}

// A message is any line that QEMU sends.
type message struct {
	Greeting *json.RawMessage `json:"QMP"`
	Event    string           `json:"event"`
	Data     json.RawMessage  `json:"data"`
	Return   json.RawMessage  `json:"return"`
	Error    *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	ID *int `json:"id"`
}

// An event is why a guest ended: QEMU's ShutdownCause, or "panic".
type event struct{ reason string }

const (
	maxMessage = 1 << 20
	dialEvery  = 10 * time.Millisecond
)

// dialMonitor connects as soon as the socket answers; host.ErrGone if the VMM
// ends before that.
func dialMonitor(ctx context.Context, path string, gone <-chan struct{}) (*monitor, error) {
	tick := time.NewTicker(dialEvery)
	defer tick.Stop()
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			return newMonitor(ctx, conn, gone)
		}
		select {
		case <-tick.C:
		case <-gone:
			return nil, host.ErrGone
		case <-ctx.Done():
			return nil, fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
	}
}

func newMonitor(ctx context.Context, conn net.Conn, gone <-chan struct{}) (*monitor, error) {
	m := &monitor{conn: conn, events: make(chan event, 8), lost: make(chan struct{}), pending: map[int]chan message{}}
	go m.read()
	// The greeting needs no waiting for: commands are queued until it is sent.
	_, err := m.command(ctx, "qmp_capabilities", nil)
	if err != nil {
		m.Close()
		select {
		case <-gone:
			return nil, host.ErrGone
		default:
			return nil, err
		}
	}
	return m, nil
}

func (m *monitor) read() {
	defer close(m.lost)
	in := bufio.NewScanner(m.conn)
	in.Buffer(make([]byte, 0, 4096), maxMessage)
	for in.Scan() {
		msg, err := parseMessage(in.Bytes())
		if err != nil {
			break // not QMP: what follows cannot be trusted to be framed
		}
		m.dispatch(msg)
	}
	m.conn.Close()
}

func parseMessage(line []byte) (message, error) {
	var m message
	err := json.Unmarshal(line, &m)
	return m, err
}

func (m *monitor) dispatch(msg message) {
	if msg.Event != "" {
		if e, ok := endOf(msg); ok {
			select {
			case m.events <- e:
			default: // more than a guest can end: the first ones count
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

// endOf returns the event that says that, and why, a guest has ended.
func endOf(msg message) (event, bool) {
	var data struct {
		Reason string `json:"reason"`
	}
	switch msg.Event {
	case "SHUTDOWN":
		if json.Unmarshal(msg.Data, &data) != nil {
			data.Reason = ""
		}
		return event{reason: host.Escape(data.Reason)}, true
	case "GUEST_PANICKED":
		return event{reason: "guest-panic"}, true
	}
	return event{}, false
}

// command runs one command and returns what it returned.
func (m *monitor) command(ctx context.Context, name string, arguments any) (json.RawMessage, error) {
	reply := make(chan message, 1)
	m.mu.Lock()
	m.next++
	id := m.next
	m.pending[id] = reply
	b, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        int    `json:"id"`
	}{name, arguments, id})
	if err == nil {
		_, err = m.conn.Write(append(b, '\n'))
	}
	m.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("QMP %s: %w", name, err)
	}
	select {
	case msg := <-reply:
		if msg.Error != nil {
			return nil, fmt.Errorf("QMP %s: %s", name, host.Escape(msg.Error.Desc))
		}
		return msg.Return, nil
	case <-m.lost:
		return nil, fmt.Errorf("QMP %s: %w", name, errLost)
	case <-ctx.Done():
		m.mu.Lock()
		delete(m.pending, id)
		m.mu.Unlock()
		return nil, fmt.Errorf("QMP %s: %w", name, context.Cause(ctx))
	}
}

var errLost = errors.New("control connection lost")

// status returns QEMU's RunState: "running", "shutdown", …
func (m *monitor) status(ctx context.Context) (string, error) {
	b, err := m.command(ctx, "query-status", nil)
	if err != nil {
		return "", err
	}
	var s struct {
		Status string `json:"status"`
	}
	err = json.Unmarshal(b, &s)
	return s.Status, err
}

// Close ends the connection; the VMM lives on.
func (m *monitor) Close() {
	m.conn.Close()
	<-m.lost
}
