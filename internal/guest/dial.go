package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// Dial makes one connection, host key and user verified. It is bounded by ctx,
// the handshake included. It speaks first: some user-mode networks do not finish
// a connection before the client has sent something.
func Dial(ctx context.Context, cfg Config) (*Conn, error) {
	return dial(ctx, cfg, func() error { return nil }, func() {})
}

// dial calls connected before it says anything, and gives up if that fails; and
// answered once the first bytes of the other side have come.
func dial(ctx context.Context, cfg Config, connected func() error, answered func()) (*Conn, error) {
	raw, err := cfg.Dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("dial guest: %w", err)
	}
	if err := connected(); err != nil {
		raw.Close()
		return nil, err
	}
	tuneTCP(raw)
	conn := &counted{Conn: raw, answered: answered}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	client, err := handshake(conn, cfg)
	if !stop() && err == nil { // raw is closed, or about to be
		client.Close()
		return nil, context.Cause(ctx)
	}
	if err != nil {
		raw.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return nil, fmt.Errorf("connect to guest: %w", err)
	}
	return newConn(client, cfg, conn.heard.Load), nil
}

func handshake(conn net.Conn, cfg Config) (*ssh.Client, error) {
	var wrongKey, authBegan bool
	want := string(cfg.HostKey.Marshal())
	sc := &ssh.ClientConfig{
		Config:            ssh.Config{Ciphers: cfg.ciphers()},
		User:              cfg.user(),
		HostKeyAlgorithms: []string{cfg.HostKey.Type()},
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if string(key.Marshal()) != want {
				wrongKey = true
				return ErrHostKey
			}
			return nil
		},
		Auth: []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
			authBegan = true
			return []ssh.Signer{cfg.Signer}, nil
		})},
	}
	c, chans, reqs, err := ssh.NewClientConn(conn, conn.RemoteAddr().String(), sc)
	switch {
	case err == nil:
		return ssh.NewClient(c, chans, reqs), nil
	case wrongKey:
		return nil, ErrHostKey
	case authBegan && !broken(err): // x/crypto has only text for this
		return nil, fmt.Errorf("%w: %w", ErrAuth, foreign(err))
	}
	return nil, foreign(err)
}

// broken reports whether err is of the network, not of the protocol on it.
func broken(err error) bool {
	var n net.Error
	return errors.As(err, &n) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}

// unackedLimit is how long sent bytes may stay without TCP's acknowledgement.
const unackedLimit = 60 * time.Second

// unsentLimit is how many bytes wait in the kernel to be sent. It would take
// megabytes, and on a slow link every signal, answer and other command's byte
// would come behind them: SSH's packets are put in order before.
const unsentLimit = 64 << 10

// tuneTCP has the kernel notice a peer that is gone while there is something
// to say to it, and nothing sent while there is not: an idle VM stays idle.
func tuneTCP(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	tcp.SetKeepAlive(false)
	if raw, err := tcp.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { // best effort: the SSH keepalive comes after it
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedLimit.Milliseconds()))
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentLimit)
		})
	}
}

// A counted connection counts what comes, and tells when the first bytes did.
type counted struct {
	net.Conn
	heard    atomic.Int64
	once     sync.Once
	answered func()
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.heard.Add(int64(n))
	if n > 0 {
		c.once.Do(c.answered)
	}
	return n, err
}
