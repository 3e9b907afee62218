// Package dns is an authoritative server for the names of VMs, NAME.vm, and of
// their addresses. It knows no VM: a View says what is true at the moment of the
// question, so that no record is kept that could be old. It resolves nothing else;
// for guests it asks the host's own resolvers.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
	"golang.org/x/sys/unix"
)

// What a client may take.
const (
	maxConns   = 64              // TCP connections at a time; more wait to be accepted
	maxQueries = 128             // in one of them: few enough for a socket to hold all answers, so that nobody has to take any
	firstQuery = 2 * time.Second // until the first has come
	idle       = 5 * time.Second // between two
)

// A Server answers on one address, UDP and TCP.
type Server struct {
	addr     netip.AddrPort
	missed   error // why it is not the first address that was wanted
	udp, tcp *dns.Server
	failed   chan error // each of the two sends once, when it has ended
	stop     func()     // ends what is asked outside
}

// Listen serves on the first of these addresses that is free for both UDP and
// TCP; port 0 is any free one. Without a free one it returns what was wrong with
// the first. Close ends it.
func Listen(ctx context.Context, at []netip.AddrPort, view View, log *slog.Logger) (*Server, error) {
	return first(ctx, at, handler{view: view, log: log})
}

// ListenForGuests is Listen on an address that the host need not have yet, for askers
// that trust nobody and are not trusted. What is not ours is asked outside, at servers,
// which are the host's own, best first, at each question.
func ListenForGuests(ctx context.Context, at []netip.AddrPort, view View, servers func() []netip.AddrPort, log *slog.Logger) (*Server, error) {
	return first(ctx, at, handler{view: view, log: log, outside: newForwarder(servers)})
}

func first(ctx context.Context, at []netip.AddrPort, h handler) (*Server, error) {
	var first error
	for _, a := range at {
		s, err := listen(ctx, a, h)
		if err == nil {
			s.missed = first
			return s, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// anyTries is how often a port that is free for TCP is looked for until one is
// free for UDP, too.
const anyTries = 20

func listen(ctx context.Context, at netip.AddrPort, h handler) (*Server, error) {
	guests := h.outside != nil
	l, pc, err := open(ctx, at, guests)
	for range anyTries {
		if err == nil || at.Port() != 0 {
			break
		}
		l, pc, err = open(ctx, at, guests)
	}
	if err != nil {
		return nil, err
	}
	quick, err := newQuickConn(pc, h)
	if err != nil {
		return nil, errors.Join(err, l.Close(), pc.Close())
	}
	s := &Server{addr: l.Addr().(*net.TCPAddr).AddrPort(), failed: make(chan error, 2), stop: func() {}}
	if guests {
		s.stop = h.outside.stop
		l = &perPeer{Listener: l, open: map[netip.Addr]int{}}
	}
	s.tcp = &dns.Server{
		Listener: netutil.LimitListener(l, maxConns), Handler: h, MsgAcceptFunc: accept,
		ReadTimeout: firstQuery, MaxTCPQueries: maxQueries,
		IdleTimeout: func() time.Duration { return idle },
	}
	s.udp = &dns.Server{PacketConn: quick, Handler: h, MsgAcceptFunc: accept, UDPSize: payload}
	for _, srv := range []*dns.Server{s.udp, s.tcp} {
		up := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(up) }
		go func() {
			err := srv.ActivateAndServe()
			if err != nil {
				h.log.Error("names are not served any more", "at", s.addr, "err", err)
			}
			s.failed <- err
		}()
		<-up // one that has not started cannot be shut down
	}
	return s, nil
}

// open takes a port for both protocols, if early on an address that comes later.
func open(ctx context.Context, at netip.AddrPort, early bool) (net.Listener, *net.UDPConn, error) {
	var lc net.ListenConfig
	if early {
		lc.Control = func(_, _ string, c syscall.RawConn) (err error) {
			cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
			return errors.Join(cerr, err)
		}
	}
	l, err := lc.Listen(ctx, "tcp4", at.String())
	if err != nil {
		return nil, nil, err
	}
	pc, err := lc.ListenPacket(ctx, "udp4", l.Addr().String())
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	return l, pc.(*net.UDPConn), nil
}

// Addr is where it listens.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// Missed is why it does not listen on the first address that it was given; nil if
// it does.
func (s *Server) Missed() error { return s.missed }

// Close stops listening, and returns when nothing of the server runs any more.
// Answers under way are let out until ctx ends.
func (s *Server) Close(ctx context.Context) error {
	s.stop()
	err := errors.Join(s.udp.ShutdownContext(ctx), s.tcp.ShutdownContext(ctx))
	return errors.Join(err, <-s.failed, <-s.failed)
}

// accept says by its header alone whether a message is worth reading. What is no
// question is not answered: two servers could answer each other without end.
func accept(h dns.Header) dns.MsgAcceptAction {
	const response, opcodeAt, opcodeMask = 1 << 15, 11, 0xf
	switch {
	case h.Bits&response != 0:
		return dns.MsgIgnore
	case int(h.Bits>>opcodeAt)&opcodeMask != dns.OpcodeQuery:
		return dns.MsgRejectNotImplemented
	case h.Qdcount != 1 || h.Ancount != 0 || h.Nscount > 1 || h.Arcount > 2:
		return dns.MsgReject
	}
	return dns.MsgAccept
}

// A handler answers what was accepted.
type handler struct {
	view    View
	log     *slog.Logger
	outside *forwarder // nil: nothing is asked outside
}

// ServeDNS implements dns.Handler.
func (h handler) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	asker, udp := netip.AddrPort{}, false
	switch a := w.RemoteAddr().(type) {
	case *net.UDPAddr:
		asker, udp = a.AddrPort(), true
	case *net.TCPAddr:
		asker = a.AddrPort()
	}
	m := new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
	if len(q.Question) == 1 { // a header promises one; where it ends there, the library is content
		m = h.respond(q, asker.Addr().Unmap(), udp)
	}
	if m == nil {
		return
	}
	size := dns.MaxMsgSize
	if udp {
		size = dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = max(size, min(int(opt.UDPSize()), payload))
		}
	}
	m.Truncate(size)
	if err := w.WriteMsg(m); err != nil {
		h.log.Debug("answer a name", "asker", asker, "err", err)
	}
}

// respond returns the whole answer, nil for none.
func (h handler) respond(q *dns.Msg, asker netip.Addr, udp bool) *dns.Msg {
	names, err := h.view(context.Background(), asker)
	if err != nil {
		h.log.Warn("look up a name", "err", fmt.Errorf("find the VMs: %w", err))
		return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	}
	if names == nil {
		return nil
	}
	m := answer(q, names)
	if h.outside != nil && names.Outside && m.Rcode == dns.RcodeRefused && forwardable(q) {
		return h.outside.ask(q, asker, udp)
	}
	return m
}
