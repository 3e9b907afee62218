package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"banger/internal/guestapi"
)

// A Conn is a connection to one VM's guest program. Any number of goroutines
// may use it. While anything runs over it, it is probed, and closed when the
// guest no longer answers; while nothing does, it costs no wakeups.
type Conn struct {
	cfg    Config
	client *ssh.Client
	alive  *keepalive
	asking chan struct{} // held (by a value in it) while a global request is under way: SSH answers them in order
	done   chan struct{}
}

func newConn(client *ssh.Client, cfg Config, heard func() int64) *Conn {
	c := &Conn{cfg: cfg, client: client, asking: make(chan struct{}, 1), done: make(chan struct{})}
	c.alive = newKeepalive(c.probe, heard, func() {
		cfg.log().Warn("guest program does not answer, closing the connection")
		client.Close()
	})
	go func() {
		client.Wait()
		close(c.done)
	}()
	return c
}

// Done is closed when the connection is lost or closed.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Close ends the connection and what runs over it. It may be called again.
func (c *Conn) Close() error {
	c.client.Close()
	<-c.done
	return nil
}

// Status asks the guest program how its machine is.
func (c *Conn) Status(ctx context.Context) (guestapi.Status, error) {
	body, err := c.request(ctx, guestapi.StatusRequest, nil, c.alive.use())
	return parseStatus(body, err)
}

// WaitBooted returns once the machine has booted, or failed to, in its own
// init's opinion; ctx is the only limit. It connects anew: replies to global
// requests have no number in SSH, so one that waits would hold up all others.
func (c *Conn) WaitBooted(ctx context.Context) (guestapi.Status, error) {
	defer c.alive.use()() // probes the guest, which the other connection cannot while it waits
	own, err := Dial(ctx, c.cfg)
	if err != nil {
		return guestapi.Status{}, err
	}
	defer own.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-c.done:
			cancel(ErrLost)
		case <-ctx.Done():
		}
	}()
	// Not a use of own: a probe would wait behind this request and give up.
	body, err := own.request(ctx, guestapi.WaitBootedRequest, nil, func() {})
	return parseStatus(body, err)
}

// Shutdown asks the guest program to end the machine in the image's own way;
// how is "poweroff" or "reboot". It returns when that is under way.
func (c *Conn) Shutdown(ctx context.Context, how string) error {
	_, err := c.request(ctx, guestapi.ShutdownRequest, []byte(how), c.alive.use())
	return err
}

// maxStatus bounds what a guest may say about itself, bytes.
const maxStatus = 64 << 10

func parseStatus(body []byte, err error) (guestapi.Status, error) {
	var s guestapi.Status
	if err != nil {
		return s, err
	}
	if len(body) > maxStatus {
		return s, fmt.Errorf("guest's status has %d bytes, limit %d", len(body), maxStatus)
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return guestapi.Status{}, fmt.Errorf("decode guest's status: %w", foreign(err))
	}
	for _, word := range []string{s.Launch, s.System} {
		if strings.ContainsFunc(word, func(r rune) bool { return !strconv.IsPrint(r) }) {
			return guestapi.Status{}, fmt.Errorf("guest's status says %q", word)
		}
	}
	return s, nil
}

// request sends a global request and waits for its answer or the end of ctx.
// SSH has no way to take a request back: the answer is awaited in the
// background then, and release is called when it has come or never will.
func (c *Conn) request(ctx context.Context, name string, payload []byte, release func()) ([]byte, error) {
	type reply struct {
		ok   bool
		body []byte
		err  error
	}
	select {
	case c.asking <- struct{}{}:
	case <-ctx.Done():
		release()
		return nil, fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	ch := make(chan reply, 1)
	go func() {
		defer release()
		defer func() { <-c.asking }()
		ok, body, err := c.client.SendRequest(name, true, payload)
		ch <- reply{ok, body, err}
	}()
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", name, context.Cause(ctx))
	case r := <-ch:
		switch {
		case r.err != nil:
			return nil, fmt.Errorf("%s: %w: %w", name, ErrLost, foreign(r.err))
		case !r.ok:
			return nil, fmt.Errorf("%s: %w", name, ErrRefused)
		}
		return r.body, nil
	}
}

// probe asks for a sign of life and waits for it, as long as there is a
// connection. A refusal is an answer, too: servers need not know the name.
func (c *Conn) probe() error {
	select {
	case c.asking <- struct{}{}:
	case <-c.done:
		return ErrLost
	}
	defer func() { <-c.asking }()
	_, _, err := c.client.SendRequest("keepalive@openssh.com", true, nil)
	return err
}

// OpenDirect connects to a TCP port inside the guest, as ssh -L does. The
// connection has no deadlines; closing it is what ends a Read.
func (c *Conn) OpenDirect(ctx context.Context, host string, port int) (net.Conn, error) {
	opened := make(chan error, 1)
	d := &directConn{release: sync.OnceFunc(c.alive.use())}
	go func() {
		var err error
		if d.Conn, err = c.client.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(port))); err != nil {
			d.release()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		if err != nil {
			return nil, fmt.Errorf("connect to port %d in guest: %w", port, foreign(err))
		}
		return d, nil
	case <-ctx.Done():
		go func() {
			if <-opened == nil {
				d.Close()
			}
		}()
		return nil, fmt.Errorf("connect to port %d in guest: %w", port, context.Cause(ctx))
	}
}

// A directConn counts as a use of its Conn until it is closed.
type directConn struct {
	net.Conn
	release func()
}

func (d *directConn) Close() error {
	defer d.release()
	return d.Conn.Close()
}

// CloseWrite sends end of file and leaves the other direction open.
func (d *directConn) CloseWrite() error {
	if w, ok := d.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}
