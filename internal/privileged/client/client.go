// Package client asks banger-root: one connection, one request at a time. It
// starts nothing; who is told that banger-root is absent may start it.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
	"banger/internal/privileged"
)

// ErrAbsent means that no banger-root of this uid listens.
var ErrAbsent = errors.New("banger-root does not run")

// A Client is one connection to banger-root. While it is open banger-root
// stays, and keeps the network that it was last given as it is meant to be. Its
// methods may be called by several at once, and wait for each other.
type Client struct {
	conn    *net.UnixConn
	pid     int32                    // of banger-root
	turn    chan struct{}            // holds a value while a request is under way
	speaks  atomic.Int32             // the protocol that banger-root knows, as far as it has said
	answers chan privileged.Response // unbuffered: of the request that is under way
	done    chan struct{}
	once    sync.Once
	err     error // why done is closed
}

// Dial connects to the banger-root that serves uid. The error matches ErrAbsent,
// with code NeedsRoot, if there is none; it is HostUnready if what lies where
// the socket should is not root's, or not root answers there.
func Dial(ctx context.Context, uid int) (*Client, error) {
	if err := privileged.RootOwned(privileged.SocketDir(uint32(uid))); err != nil {
		return nil, absentOr(err)
	}
	d := net.Dialer{}
	c, err := d.DialContext(ctx, privileged.Network, privileged.SocketPath(uint32(uid)))
	if err != nil {
		return nil, absentOr(err)
	}
	conn := c.(*net.UnixConn)
	peer, pid, err := privileged.PeerUID(conn)
	if err == nil && peer != 0 {
		err = banger.Errorf(banger.HostUnready, "process %d answers for banger-root, and is uid %d's", pid, peer).
			WithRemedy("find out what that process is: ps -p %d", pid)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	cl := &Client{conn: conn, pid: pid, turn: make(chan struct{}, 1), answers: make(chan privileged.Response), done: make(chan struct{})}
	cl.speaks.Store(privileged.Protocol)
	go cl.read()
	return cl, nil
}

func absentOr(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return absent(ErrAbsent)
	}
	if errors.As(err, new(*banger.Error)) {
		return err
	}
	return banger.Errorf(banger.HostUnready, "connect to banger-root: %w", err).WithRemedy("banger doctor")
}

func absent(err error) *banger.Error {
	return banger.Errorf(banger.NeedsRoot, "%w", err).WithRemedy("start it: sudo banger-root")
}

// read hands answers to whoever waits. An answer that nobody waits for ends the
// connection, as its end does: from then on nobody knew which is whose.
func (c *Client) read() {
	for {
		b, files, err := privileged.Receive(c.conn)
		privileged.CloseAll(files)
		var r privileged.Response
		if err == nil {
			r, err = ParseResponse(b)
		}
		if err == nil && len(c.turn) == 0 {
			err = errors.New("an answer that nobody has asked for")
		}
		if err != nil {
			c.end(err)
			return
		}
		select {
		case c.answers <- r:
		case <-c.done:
			return
		}
	}
}

// ParseResponse decodes one response. Fields that it does not know are a later
// banger-root's and mean nothing to it.
func ParseResponse(b []byte) (privileged.Response, error) {
	var r privileged.Response
	if err := json.Unmarshal(b, &r); err != nil {
		return r, banger.Errorf(banger.Internal, "banger-root's answer: %w", err)
	}
	return r, nil
}

func (c *Client) end(err error) {
	c.once.Do(func() {
		c.err = err
		c.conn.Close()
		close(c.done)
	})
}

// ask sends one request and waits for its answer; a banger-root of an earlier
// banger refuses it, and is asked again in its own protocol. When ctx ends before
// that the connection is closed, and what was asked for may happen or not.
func (c *Client) ask(ctx context.Context, r privileged.Request) error {
	_, err := c.exchange(ctx, r)
	return err
}

// exchange is ask with files beside the request, and with the answer. To the
// banger-root of the banger before this one it speaks as that did.
func (c *Client) exchange(ctx context.Context, r privileged.Request, files ...*os.File) (none privileged.Response, err error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return none, ctx.Err()
	case <-c.done:
		return none, c.lost()
	}
	if err := r.Check(); err != nil {
		return none, err
	}
	stop := context.AfterFunc(ctx, func() { c.end(ctx.Err()) })
	defer stop()
	for {
		spoken := c.speaks.Load()
		if r.Op.Since() > int(spoken) {
			return none, banger.Errorf(banger.HostUnready, "the banger-root that runs (process %d) is older than this banger", c.pid).
				WithRemedy("sudo kill %d; then: sudo banger-root", c.pid)
		}
		if spoken == 1 && r.Op == privileged.NetworkSet {
			files = nil // ports, of which that knows nothing
		}
		a, err := c.try(ctx, r.In(int(spoken)), files)
		if err != nil {
			return none, err
		}
		if a.Protocol == 1 {
			c.speaks.Store(1)
		}
		if a.Error != nil && c.speaks.Load() < spoken {
			continue
		}
		if a.Error != nil {
			return none, a.Error
		}
		return a, nil
	}
}

// try is one message and its answer.
func (c *Client) try(ctx context.Context, message any, files []*os.File) (none privileged.Response, err error) {
	// Its socket's buffer is empty, as at most one request is under way: this
	// blocks on nothing but a banger-root that is stopped.
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return none, c.failed(ctx, err)
	}
	if err := privileged.Send(c.conn, message, files...); err != nil {
		return none, c.failed(ctx, err)
	}
	select {
	case a := <-c.answers:
		return a, nil
	case <-c.done:
		return none, c.failed(ctx, c.err)
	}
}

const writeTimeout = 10 * time.Second

func (c *Client) failed(ctx context.Context, err error) error {
	c.end(err)
	if ctx.Err() != nil {
		return fmt.Errorf("wait for banger-root: %w", ctx.Err())
	}
	return c.lost()
}

// lost is NeedsRoot: who asks again connects again, or starts it again.
func (c *Client) lost() error {
	e := absent(c.err)
	e.Message = fmt.Sprintf("the connection to banger-root is gone: %v", c.err)
	return e
}

// AllowKVM lets the user open /dev/kvm.
func (c *Client) AllowKVM(ctx context.Context) error {
	return c.ask(ctx, privileged.Request{Op: privileged.KVMAllow})
}

// RevokeKVM takes back what AllowKVM gave, and nothing that others gave.
func (c *Client) RevokeKVM(ctx context.Context) error {
	return c.ask(ctx, privileged.Request{Op: privileged.KVMRevoke})
}

// Resolve has the host's resolver ask server for the names of an installation's
// VMs, for as long as this connection lives; the zero server: nobody any more. It is
// HostUnready where the resolver cannot be told.
func (c *Client) Resolve(ctx context.Context, tag string, server netip.AddrPort) error {
	return c.ask(ctx, privileged.Request{Op: privileged.ResolverSet, Resolver: &privileged.Resolver{Tag: tag, Server: server}})
}

// Exit ends banger-root. What it made stays.
func (c *Client) Exit(ctx context.Context) error {
	return c.ask(ctx, privileged.Request{Op: privileged.RootExit})
}

// NAT reports why this banger-root makes none, as HostUnready: it belongs to an
// earlier banger, as far as its answers have told.
func (c *Client) NAT() error {
	if c.speaks.Load() >= 2 {
		return nil
	}
	return banger.Errorf(banger.HostUnready, "the banger-root that runs is of an earlier banger, and makes no NAT").
		WithRemedy("end it, and the next command starts yours: sudo kill %d", c.pid)
}

// Done is closed when the connection is gone.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close ends the connection. Networks stay as they are, and nobody watches over
// them any more.
func (c *Client) Close() error {
	c.end(net.ErrClosed)
	return nil
}

// Router is the network as banger-root makes it.
func (c *Client) Router() network.Router { return router{c} }

type router struct{ c *Client }

func (r router) Probe(ctx context.Context) error {
	return r.c.ask(ctx, privileged.Request{Op: privileged.NetworkProbe})
}

func (r router) Set(ctx context.Context, cfg network.Config) error {
	sockets, err := dup(cfg.Ports)
	defer privileged.CloseAll(sockets)
	if err == nil {
		_, err = r.c.exchange(ctx, privileged.Request{Op: privileged.NetworkSet, Network: &cfg}, sockets...)
	}
	return err
}

// dup returns the ports' sockets as files of the caller's.
func dup(ports []network.Port) (sockets []*os.File, err error) {
	for _, p := range ports {
		raw, err := p.Socket.SyscallConn()
		var derr error
		if err == nil {
			err = raw.Control(func(fd uintptr) {
				var n int
				if n, derr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); derr == nil {
					sockets = append(sockets, os.NewFile(uintptr(n), "socket"))
				}
			})
		}
		if err = errors.Join(err, derr); err != nil {
			return sockets, fmt.Errorf("hand over the socket of port %d of VM %s: %w", p.Guest, p.VM, err)
		}
	}
	return sockets, nil
}
