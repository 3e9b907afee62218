package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"banger"
	"banger/internal/vmm"
)

// consoleChunk and consoleQueue bound what a client that does not read keeps
// waiting of a console, bytes and how many times that: what comes beyond is left
// out for it. Nobody may keep a guest waiting who writes to its console.
const (
	consoleChunk = 4 << 10
	consoleQueue = 64
)

// A Console is a VM's serial console, attached: close it.
type Console struct {
	conn  net.Conn
	life  *life
	close func() error
}

// AttachConsole attaches to the serial console of a VM that runs, ready or not.
// One client at a time: a terminal that two type into helps nobody.
func (m *Manager) AttachConsole(ctx context.Context, ref string) (*Console, error) {
	r, err := m.c.Store.FindVM(ctx, ref)
	if err != nil {
		return nil, err
	}
	name := r.Spec.Name
	l := m.life(r.ID)
	if l == nil || l.over() {
		return nil, banger.Errorf(banger.WrongState, "%s is not running", name).WithRemedy("banger start %s", name)
	}
	p, ok := l.proc.(vmm.Consoler)
	if !ok {
		return nil, banger.Errorf(banger.WrongState, "backend %s has no console to attach to", r.Spec.Backend).WithRemedy("banger logs %s shows what it says", name)
	}
	m.mu.Lock()
	if l.attached {
		m.mu.Unlock()
		return nil, banger.Errorf(banger.Busy, "somebody is attached to the console of %s", name).WithRemedy("banger logs -f %s shows what it says", name)
	}
	l.attached = true
	m.mu.Unlock()
	detach := func() { m.mu.Lock(); defer m.mu.Unlock(); l.attached = false }
	conn, err := p.Console(ctx)
	if err != nil {
		detach()
		return nil, fmt.Errorf("console of %s: %w", name, err)
	}
	return &Console{conn: conn, life: l, close: sync.OnceValue(func() error { defer detach(); return conn.Close() })}, nil
}

// Close detaches; the VM goes on.
func (c *Console) Close() error { return c.close() }

// Join gives what is read from in to the guest, and what the guest says to out,
// until the VM ends (nil), out fails or ctx ends; then it closes c. The end of in
// ends nothing. A Read of in that is under way is left to its owner.
func (c *Console) Join(ctx context.Context, in io.Reader, out io.Writer) error {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	go func() {
		_, _ = io.Copy(c.conn, in) // ends with in, or with the console
	}()
	said := make(chan []byte, consoleQueue)
	read := make(chan error, 1)
	go func() { read <- c.read(said) }()
	var err error
	for p := range said {
		if err == nil {
			if _, err = out.Write(p); err != nil {
				c.Close() // and read to its end
			}
		}
	}
	rerr := <-read
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil && !errors.Is(rerr, io.EOF):
		err = fmt.Errorf("read the console: %w", rerr)
	}
	return errors.Join(err, c.Close())
}

// read never waits for who reads said: what finds no room there is left out, and
// a note takes its place once there is room.
func (c *Console) read(said chan<- []byte) error {
	defer close(said)
	left := 0
	for {
		p := make([]byte, consoleChunk)
		n, err := c.conn.Read(p)
		if left > 0 && len(said) < cap(said)-1 {
			said <- fmt.Appendf(nil, "\r\n[banger: %d bytes left out here; they are in the log]\r\n", left)
			left = 0
		}
		if n > 0 {
			select {
			case said <- p[:n]:
			default:
				left += n
			}
		}
		if err != nil {
			return err
		}
	}
}
