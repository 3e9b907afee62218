package dns

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// What guests may have asked outside.
const (
	maxAsked     = 256 // at a time, by all
	maxAskedEach = 32  // by one address
	oneServer    = 2 * time.Second
	allServers   = 4 * time.Second // less than the 5 s after which a C library asks again
)

// A forwarder asks the host's own resolvers what a guest wants to know.
type forwarder struct {
	servers func() []netip.AddrPort
	ctx     context.Context // of the server: what is asked ends with it
	stop    context.CancelFunc

	mu    sync.Mutex
	all   int
	asked map[netip.Addr]int
}

func newForwarder(servers func() []netip.AddrPort) *forwarder {
	f := &forwarder{servers: servers, asked: map[netip.Addr]int{}}
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

// local are the domains that mean something on one machine or link only: those of
// RFC 6761 and RFC 6762, and ours.
var local = []string{"localhost.", "local.", "invalid.", "onion.", Zone}

// forwardable reports whether a question is anybody else's to answer. A name of one
// label means a machine of the host's own network; and a whole zone, or all that
// there is of a name, is a long answer to a short question.
func forwardable(q *dns.Msg) bool {
	question := q.Question[0]
	name := dns.CanonicalName(question.Name)
	switch question.Qtype {
	case dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILB, dns.TypeMAILA:
		return false
	}
	return q.RecursionDesired && question.Qclass == dns.ClassINET && (name == "." || dns.CountLabel(name) > 1) &&
		!slices.ContainsFunc(local, func(zone string) bool { return dns.IsSubDomain(zone, name) })
}

// ask asks each server until one answers. What it says is told on, but for names that
// lead back to the asker: a guest that is sent to its own loopback, or to no address
// at all, is sent there by somebody who means it no good.
func (f *forwarder) ask(q *dns.Msg, asker netip.Addr, udp bool) *dns.Msg {
	failed := new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	if !f.enter(asker) {
		return failed
	}
	defer f.leave(asker)
	ctx, cancel := context.WithTimeout(f.ctx, allServers)
	defer cancel()
	// A message of our own: nothing but the question is the guest's.
	ours := new(dns.Msg).SetQuestion(q.Question[0].Name, q.Question[0].Qtype)
	ours.CheckingDisabled = q.CheckingDisabled
	opt := q.IsEdns0()
	ours.SetEdns0(payload, opt != nil && opt.Do())
	c := dns.Client{Timeout: oneServer, UDPSize: payload}
	if !udp {
		c.Net = "tcp"
	}
	for _, s := range f.servers() {
		a, err := exchange(ctx, &c, ours, s)
		if err != nil || !answers(a, ours) {
			continue
		}
		if slices.ContainsFunc(a.Answer, leadsBack) {
			refused := new(dns.Msg).SetReply(q)
			refuse(refused)
			return refused
		}
		return retell(q, a)
	}
	return failed
}

// exchange asks one server, until ctx ends: the library's own looks at ctx before
// only.
func exchange(ctx context.Context, c *dns.Client, q *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	conn, err := c.DialContext(ctx, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	a, _, err := c.ExchangeWithConn(q, conn)
	return a, err
}

// answers reports whether a is the answer to q: the library has compared their IDs.
func answers(a, q *dns.Msg) bool {
	return a.Response && len(a.Question) == 1 && a.Question[0].Qtype == q.Question[0].Qtype && a.Question[0].Qclass == q.Question[0].Qclass &&
		strings.EqualFold(a.Question[0].Name, q.Question[0].Name)
}

func leadsBack(rr dns.RR) bool {
	var ip net.IP
	switch r := rr.(type) {
	case *dns.A:
		ip = r.A
	case *dns.AAAA:
		ip = r.AAAA
	default:
		return false
	}
	a, _ := netip.AddrFromSlice(ip)
	a = a.Unmap()
	return !a.IsValid() || a.IsLoopback() || a.IsUnspecified() || a.Is4() && a.As4()[0] == 0
}

// retell is answer a to question q.
func retell(q, a *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.Rcode, m.Truncated, m.RecursionAvailable = a.Rcode, a.Truncated, true
	m.AuthenticatedData, m.CheckingDisabled = a.AuthenticatedData, q.CheckingDisabled
	isOPT := func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeOPT }
	m.Answer, m.Ns, m.Extra = a.Answer, a.Ns, slices.DeleteFunc(a.Extra, isOPT)
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(payload, opt.Do())
	} else {
		m.Rcode &= 0xf // the rest of a code is in the OPT that there is none of
	}
	return m
}

// enter counts a question; false: there are enough.
func (f *forwarder) enter(asker netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all >= maxAsked || f.asked[asker] >= maxAskedEach {
		return false
	}
	f.all++
	f.asked[asker]++
	return true
}

func (f *forwarder) leave(asker netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all--
	if f.asked[asker]--; f.asked[asker] == 0 {
		delete(f.asked, asker)
	}
}

// maxConnsEach is how many TCP connections one address may have at a time.
const maxConnsEach = 8

// A perPeer listener hangs up on a peer that has enough connections, so that one
// guest does not take all that there are.
type perPeer struct {
	net.Listener
	mu   sync.Mutex
	open map[netip.Addr]int
}

// Accept implements net.Listener.
func (l *perPeer) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		if l.count(peer, 1) {
			return &peerConn{Conn: c, gone: sync.OnceFunc(func() { l.count(peer, -1) })}, nil
		}
		c.Close()
	}
}

// count adds n to what a peer has; false: it has enough.
func (l *perPeer) count(peer netip.Addr, n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n > 0 && l.open[peer] >= maxConnsEach {
		return false
	}
	if l.open[peer] += n; l.open[peer] == 0 {
		delete(l.open, peer)
	}
	return true
}

type peerConn struct {
	net.Conn
	gone func()
}

// Close implements net.Conn.
func (c *peerConn) Close() error {
	defer c.gone()
	return c.Conn.Close()
}
