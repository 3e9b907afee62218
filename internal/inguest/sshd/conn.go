package sshd

import (
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"banger/internal/guestapi"
)

// unsentLimit is how many bytes wait in the kernel to be sent. It would take
// megabytes, and on a slow link all other commands' output and every answer would
// come behind those of one: SSH's packets are put in order before.
const unsentLimit = 64 << 10

// A conn is one client's connection.
type conn struct {
	srv      *Server
	ssh      *ssh.ServerConn
	account  account
	ctx      context.Context // ends with the connection
	wg       sync.WaitGroup  // channels
	channels chan struct{}
	forwards forwards
}

func (s *Server) serveConn(raw net.Conn) {
	defer raw.Close()
	defer context.AfterFunc(s.ctx, func() { raw.Close() })()
	if tcp, ok := raw.(*net.TCPConn); ok {
		// Rarely: a kept-open connection must not keep an idle VM awake.
		tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 2 * time.Minute, Interval: 30 * time.Second, Count: 4})
		if fd, err := tcp.SyscallConn(); err == nil {
			fd.Control(func(fd uintptr) { // best effort
				unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentLimit)
			})
		}
	}
	raw.SetDeadline(time.Now().Add(handshakeLimit))
	ahead := &readAhead{Conn: raw}
	sc, chans, reqs, err := ssh.NewServerConn(ahead, s.ssh)
	if err != nil {
		return // port scans, probes and clients that gave up: not worth a line
	}
	ahead.known.Store(true)
	raw.SetDeadline(time.Time{})
	ctx, cancel := context.WithCancel(s.ctx)
	c := &conn{srv: s, ssh: sc, ctx: ctx, channels: make(chan struct{}, maxChannels)}
	defer c.wg.Wait()
	defer c.forwards.closeAll()
	defer cancel()
	defer sc.Close()
	if c.account, err = s.users().login(sc.User()); err != nil {
		return
	}
	// Replies have no number in SSH, so requests are answered one by one; a
	// client that waits for the boot does so on a connection of its own.
	c.wg.Go(func() { c.serveRequests(reqs) })
	for nc := range chans {
		c.serveChannel(nc)
	}
}

// serveChannel must not block: all of the connection's traffic waits for it.
func (c *conn) serveChannel(nc ssh.NewChannel) {
	var serve func(ssh.NewChannel)
	switch nc.ChannelType() {
	case "session":
		serve = c.serveSession
	case "direct-tcpip":
		serve = c.serveDirect
	default:
		c.wg.Go(func() { nc.Reject(ssh.UnknownChannelType, "unknown channel type") })
		return
	}
	select {
	case c.channels <- struct{}{}:
		c.wg.Go(func() {
			defer func() { <-c.channels }()
			serve(nc)
		})
	default:
		c.wg.Go(func() { nc.Reject(ssh.ResourceShortage, "too many channels") })
	}
}

func (c *conn) serveRequests(reqs <-chan *ssh.Request) {
	for r := range reqs {
		ok, reply := c.answer(r)
		if r.WantReply {
			r.Reply(ok, reply)
		}
	}
}

func (c *conn) answer(r *ssh.Request) (ok bool, reply []byte) {
	m := c.srv.cfg.Machine
	switch r.Type {
	case "keepalive@openssh.com":
		return true, nil
	case guestapi.StatusRequest:
		return true, statusJSON(m.Status())
	case guestapi.WaitBootedRequest:
		ctx, cancel := context.WithCancel(c.ctx)
		defer cancel()
		go func() { // the request loop is busy here: it does not see the end
			c.ssh.Wait()
			cancel()
		}()
		return true, statusJSON(m.WaitBooted(ctx))
	case guestapi.ShutdownRequest:
		if c.account.UID != 0 {
			return false, []byte("only root may")
		}
		if err := m.Shutdown(string(r.Payload)); err != nil {
			return false, []byte(err.Error())
		}
		return true, nil
	case "tcpip-forward":
		return c.listen(r.Payload)
	case "cancel-tcpip-forward":
		return c.unlisten(r.Payload), nil
	}
	return false, nil
}
