package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

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

// consoleLinger is how long after its console's end a VMM may live.
const consoleLinger = 10 * time.Second

// A Console is a VM's serial console, attached: close it.
type Console struct {
	m    *Manager
	id   banger.VMID
	life *life // whose console it is; Join's own once that is called

	mu     sync.Mutex
	conn   net.Conn
	closed bool
}

// AttachConsole attaches to the serial console of a VM that runs, ready or not,
// or is about to. One client at a time: a terminal that two type into helps nobody.
func (m *Manager) AttachConsole(ctx context.Context, ref string) (*Console, error) {
	r, err := m.c.Store.FindVM(ctx, ref)
	if err != nil {
		return nil, err
	}
	name := r.Spec.Name
	m.mu.Lock()
	taken := m.consoles[r.ID]
	m.consoles[r.ID] = true
	m.mu.Unlock()
	if taken {
		return nil, banger.Errorf(banger.Busy, "somebody is attached to the console of %s", name).WithRemedy("banger logs -f %s shows what it says", name)
	}
	c := &Console{m: m, id: r.ID}
	ok, err := c.next(ctx)
	if err == nil && !ok {
		err = banger.Errorf(banger.WrongState, "%s is not running", name).WithRemedy("banger start %s", name)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// next connects to the console of the VM's next run, waiting for it as long as
// there will be one: false if there will not.
func (c *Console) next(ctx context.Context) (bool, error) {
	for {
		l, r, err := c.nextLife(ctx)
		if l == nil || err != nil {
			return false, err
		}
		p, ok := l.proc.(vmm.Consoler)
		if !ok {
			return false, banger.Errorf(banger.WrongState, "backend %s has no console to attach to", r.Spec.Backend).
				WithRemedy("banger logs %s shows what it says", r.Spec.Name)
		}
		conn, err := p.Console(ctx)
		c.life = l
		switch {
		case err == nil:
			return true, c.use(conn)
		case ctx.Err() == nil && c.ends(ctx, partLimit): // it has ended again
		default:
			return false, fmt.Errorf("console of %s: %w", r.Spec.Name, err)
		}
	}
}

// nextLife waits for a run of the VM's that is not c.life; nil, nil if the VM
// comes to rest before one begins.
func (c *Console) nextLife(ctx context.Context) (l *life, r banger.Record, err error) {
	err = c.m.await(ctx, func() (bool, error) {
		if r, err = c.m.c.Store.VM(ctx, c.id); err != nil {
			return false, err
		}
		if l = c.m.life(c.id); l != nil && l != c.life && !l.over() {
			return true, nil
		}
		l = nil
		s := c.m.view(r).State
		return s == banger.StateStopped || s == banger.StateError, nil
	})
	if banger.CodeOf(err) == banger.NotFound { // deleted
		return nil, r, nil
	}
	return l, r, err
}

// ends reports whether the run ends within a time.
func (c *Console) ends(ctx context.Context, within time.Duration) bool {
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-c.life.gone:
		return true
	case <-late.C:
	case <-ctx.Done():
	}
	return false
}

// use makes conn the connection, unless c is closed.
func (c *Console) use(conn net.Conn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errors.Join(net.ErrClosed, conn.Close())
	}
	c.conn = conn
	return nil
}

// Close detaches; the VM goes on. It may be called again.
func (c *Console) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	c.m.mu.Lock()
	delete(c.m.consoles, c.id)
	c.m.mu.Unlock()
	if c.conn == nil {
		return nil
	}
	return c.conn.Close()
}

// Join gives what is read from in to the guest, and what the guest says to out,
// until the VM is stopped (nil), out fails or ctx ends; then it closes c. A VM
// that is started again, by its guest's reboot or by the user, goes on, and again
// is told its name then; what is typed in between is lost. The end of in ends
// nothing. A Read of in that is under way is left to its owner.
func (c *Console) Join(ctx context.Context, in io.Reader, out io.Writer, again func(name string)) error {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()
	go c.listen(in)
	for {
		err := c.show(out)
		if err == nil && !c.ends(ctx, consoleLinger) {
			err = errors.New("its VMM has closed it")
		}
		ok := false
		if err == nil {
			ok, err = c.next(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("console: %w", err)
		case !ok:
			return nil
		}
		if r, err := c.m.c.Store.VM(ctx, c.id); err == nil {
			again(r.Spec.Name)
		}
	}
}

// listen passes on what is typed.
func (c *Console) listen(in io.Reader) {
	buf := make([]byte, consoleChunk)
	for {
		n, err := in.Read(buf)
		c.mu.Lock()
		conn := c.conn
		c.mu.Unlock()
		_, _ = conn.Write(buf[:n]) // nobody listens between two runs
		if err != nil {
			return
		}
	}
}

// show passes on what a run says, until its console ends. It fails where out does.
func (c *Console) show(out io.Writer) error {
	said := make(chan []byte, consoleQueue)
	go read(c.conn, said)
	var err error
	for p := range said {
		if err == nil {
			if _, err = out.Write(p); err != nil {
				c.Close() // and read to its end
			}
		}
	}
	return err
}

// read never waits for who reads said: what finds no room there is left out, and
// a note takes its place once there is room.
func read(conn net.Conn, said chan<- []byte) {
	defer close(said)
	left := 0
	for {
		p := make([]byte, consoleChunk)
		n, err := conn.Read(p)
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
			return
		}
	}
}
