package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/blockdev"
	"banger/internal/fault"
	"banger/internal/network"
	"banger/internal/network/link"
	"banger/internal/privileged"
)

const (
	idleTime = 5 * time.Minute  // without a connection: the end
	muteTime = time.Minute      // without a request, of who holds nothing: his end
	hurry    = 10 * time.Second // for an answer to be taken
	maxConns = 16

	quietTime  = 50 * time.Millisecond // losses come in flocks
	retryAfter = 5 * time.Second
	parting    = time.Second
)

// A server is one banger-root at work. Requests are done one after the other.
type server struct {
	uid    uint32
	router *link.Router
	bus    string // address of the system's D-Bus
	disks  *blockdev.Host
	kvm    string // path of the device
	policy string // path of the policy
	log    *slog.Logger
	idle   time.Duration // as idleTime
	mute   time.Duration // as muteTime
	end    context.CancelFunc

	doing sync.Mutex         // held while something is done to the host, and over held and told
	held  map[string]holding // by tag
	told  map[string]telling // by tag
	bound *time.Timer        // for a look at the ports of UDP

	mu    sync.Mutex // over conns and timer
	conns map[*conn]bool
	timer *time.Timer
}

// A holding is a network that a connection wants kept as it is. It is known for
// as long as the connection lives; the network stays for longer.
type holding struct {
	by  *conn
	net network.Config
}

// A conn is one client.
type conn struct {
	*net.UnixConn
	pid int32
	log *slog.Logger
}

// connected reports whether the client is there still. Of one that is about to end it
// waits for the end a moment: the next may have come while its descriptors are closed.
func (c *conn) connected() bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	p := []unix.PollFd{{Events: unix.POLLRDHUP}}
	err = raw.Control(func(fd uintptr) {
		p[0].Fd = int32(fd)
		_, _ = unix.Poll(p, int(parting.Milliseconds()))
	})
	return err == nil && p[0].Revents == 0
}

// serve answers until ctx ends, a client asks for the end, or nobody is there.
func (s *server) serve(ctx context.Context, l listener) error {
	ctx, s.end = context.WithCancel(ctx)
	defer s.end()
	lost := make(chan struct{}, 1)
	w, err := link.Watch(func() { poke(lost) })
	if err != nil {
		return err
	}
	defer w.Close()
	s.held, s.told, s.conns = map[string]holding{}, map[string]telling{}, map[*conn]bool{}
	s.timer = time.AfterFunc(s.idle, s.end)
	s.bound = time.AfterFunc(boundEvery, s.lookAtPorts)
	defer s.bound.Stop()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { s.mend(ctx, lost) })
	defer context.AfterFunc(ctx, func() {
		l.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.timer.Stop()
		for c := range s.conns {
			c.Close()
		}
	})()
	s.log.Info("started", "uid", s.uid, "pid", os.Getpid(), "protocol", privileged.Protocol)
	for {
		c, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			s.log.Info("ended", "uid", s.uid)
			return nil
		}
		if err != nil {
			s.log.Error("accept", "err", err)
			time.Sleep(quietTime) // out of descriptors: do not spin
			continue
		}
		all.Go(func() { s.talk(ctx, c) })
	}
}

// talk serves one connection to its end.
func (s *server) talk(ctx context.Context, u *net.UnixConn) {
	defer u.Close()
	peer, pid, err := privileged.PeerUID(u)
	c := &conn{u, pid, s.log.With("peer", pid)}
	// The socket's mode says so already; its owner could open it up.
	if err != nil || peer != s.uid || !s.enter(ctx, c) {
		c.log.Warn("refused a connection", "uid", peer, "err", err)
		return
	}
	defer s.leave(c)
	for err == nil {
		err = s.turn(c)
	}
	if !errors.Is(err, io.EOF) && ctx.Err() == nil {
		c.log.Warn("ended a connection", "err", err)
	}
}

// turn reads one request, does it and answers. Whoever sends what is no message
// is told so, once.
func (s *server) turn(c *conn) error {
	var until time.Time
	if !s.holds(c) {
		until = time.Now().Add(s.mute)
	}
	_ = c.SetReadDeadline(until) // of a closed connection: Receive says so
	b, files, broken := privileged.Receive(c.UnixConn)
	defer privileged.CloseAll(files)
	if broken != nil && banger.CodeOf(broken) != banger.Invalid {
		return broken
	}
	r, answer, err := privileged.Request{}, privileged.Response{}, broken
	if err == nil {
		r, err = privileged.ParseRequest(b, len(files))
	}
	if err == nil {
		answer, err = s.do(c, r, files)
		privileged.CloseAll(files) // a port that the asker gives up now is free at once
	} else {
		c.log.Warn("refused a request", "err", err)
	}
	if err := fault.At("answer"); err != nil {
		return err
	}
	answer.Protocol, answer.Error = privileged.Protocol, banger.AsError(err)
	if err := errors.Join(c.SetWriteDeadline(time.Now().Add(hurry)), privileged.Send(c.UnixConn, answer)); err != nil {
		return err
	}
	if r.Op == privileged.RootExit && err == nil {
		s.end()
	}
	return broken
}

func (s *server) enter(ctx context.Context, c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= maxConns || ctx.Err() != nil {
		return false
	}
	s.conns[c] = true
	s.timer.Stop()
	return true
}

func (s *server) leave(c *conn) {
	s.doing.Lock()
	for tag, h := range s.held {
		if h.by == c {
			s.leadNoUDP(h)
			delete(s.held, tag)
		}
	}
	s.forget(c)
	s.doing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if len(s.conns) == 0 {
		s.timer.Reset(s.idle)
	}
}

func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
