package dns_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"banger"
	"banger/internal/dns"
)

// upstream is a resolver of the host's, by UDP and TCP, that answers as it is told and
// keeps what it was asked.
type upstream struct {
	addr   netip.AddrPort
	answer func(w mdns.ResponseWriter, q *mdns.Msg)

	mu    sync.Mutex
	asked []*mdns.Msg
}

func newUpstream(t *testing.T, answer func(mdns.ResponseWriter, *mdns.Msg)) *upstream {
	t.Helper()
	u := &upstream{answer: answer}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u.addr = l.Addr().(*net.TCPAddr).AddrPort()
	pc, err := net.ListenPacket("udp4", u.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*mdns.Server{{Listener: l}, {PacketConn: pc}} {
		up := make(chan struct{})
		s.Handler, s.NotifyStartedFunc = u, func() { close(up) }
		go s.ActivateAndServe()
		<-up
		t.Cleanup(func() { s.Shutdown() })
	}
	return u
}

func (u *upstream) ServeDNS(w mdns.ResponseWriter, q *mdns.Msg) {
	u.mu.Lock()
	u.asked = append(u.asked, q)
	u.mu.Unlock()
	u.answer(w, q)
}

func (u *upstream) questions() (all []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, q := range u.asked {
		all = append(all, q.Question[0].Name)
	}
	return all
}

// records are what the world knows.
var records = []string{
	"example.com. 60 IN A 192.0.2.80", "example.com. 60 IN AAAA 2001:db8::80", "www.example.com. 60 IN CNAME example.com.",
	"evil.example. 60 IN A 127.0.0.1", "evil6.example. 60 IN AAAA ::1", "mapped.example. 60 IN AAAA ::ffff:127.1.2.3",
	"zero.example. 60 IN A 0.0.0.0", "mixed.example. 60 IN A 192.0.2.1", "mixed.example. 60 IN A 127.0.0.9",
	"9.113.0.203.in-addr.arpa. 60 IN PTR far.example.", "localhost.example. 60 IN A 192.0.2.7",
}

func worldly(w mdns.ResponseWriter, q *mdns.Msg) {
	m := new(mdns.Msg).SetReply(q)
	m.RecursionAvailable = true
	for _, s := range records {
		rr, err := mdns.NewRR(s)
		if err == nil && rr.Header().Name == q.Question[0].Name && (rr.Header().Rrtype == q.Question[0].Qtype || rr.Header().Rrtype == mdns.TypeCNAME) {
			m.Answer = append(m.Answer, rr)
		}
	}
	if len(m.Answer) == 0 {
		m.Rcode = mdns.RcodeNameError
	}
	if o := q.IsEdns0(); o != nil {
		m.SetEdns0(4096, o.Do())
	}
	_ = w.WriteMsg(m)
}

// guests serves guests; whoever asks is 127.0.0.1, and sees this.
func guests(t *testing.T, n *dns.Names, servers ...netip.AddrPort) *dns.Server {
	t.Helper()
	s, err := dns.ListenForGuests(t.Context(), []netip.AddrPort{anyPort}, fixed(n), func() []netip.AddrPort { return servers }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, s) })
	return s
}

func outside() *dns.Names {
	n := sample()
	n.Outside = true
	return n
}

// Guests are answered for VMs, and what the host's resolver says of the world; what
// means something here alone never leaves, and nobody is led to a loopback.
func TestForward(t *testing.T) {
	u := newUpstream(t, worldly)
	s := guests(t, outside(), u.addr)
	var forwarded []string
	for _, c := range []struct{ name, kind, want string }{
		{"web.vm.", "A", "NOERROR aa web.vm. 0 IN A 10.9.16.3"},
		{"3.16.9.10.in-addr.arpa.", "PTR", "NOERROR aa 3.16.9.10.in-addr.arpa. 0 IN PTR web.vm."},
		{"nosuch.vm.", "A", "NXDOMAIN aa | vm. SOA"},
		{"a.b.vm.", "A", "NXDOMAIN aa | vm. SOA"},
		{"Example.com.", "A", "NXDOMAIN ra"}, // the upstream of the test minds the case
		{"example.com.", "A", "NOERROR ra example.com. 60 IN A 192.0.2.80"},
		{"example.com.", "AAAA", "NOERROR ra example.com. 60 IN AAAA 2001:db8::80"},
		{"www.example.com.", "A", "NOERROR ra www.example.com. 60 IN CNAME example.com."},
		{"nosuch.example.", "A", "NXDOMAIN ra"},
		{"9.113.0.203.in-addr.arpa.", "PTR", "NOERROR ra 9.113.0.203.in-addr.arpa. 60 IN PTR far.example."},
		{"localhost.example.", "A", "NOERROR ra localhost.example. 60 IN A 192.0.2.7"},
		{".", "NS", "NXDOMAIN ra"},
		{"evil.example.", "A", "REFUSED"},
		{"evil6.example.", "AAAA", "REFUSED"},
		{"mapped.example.", "AAAA", "REFUSED"},
		{"zero.example.", "A", "REFUSED"},
		{"mixed.example.", "A", "REFUSED"},
	} {
		if !strings.HasSuffix(c.name, ".vm.") && !strings.HasPrefix(c.name, "3.16.") {
			forwarded = append(forwarded, c.name)
		}
		for _, network := range []string{"udp", "tcp"} {
			if got := say(exchange(t, s, network, new(mdns.Msg).SetQuestion(c.name, mdns.StringToType[c.kind]))); got != c.want {
				t.Errorf("%s %s by %s: %s, want %s", c.name, c.kind, network, got, c.want)
			}
		}
	}
	for _, name := range []string{"intranet.", "localhost.", "a.localhost.", "printer.local.", "LOCAL.", "x.onion.", "x.invalid.", "vm."} {
		exchange(t, s, "udp", new(mdns.Msg).SetQuestion(name, mdns.TypeA))
	}
	for _, change := range []func(q *mdns.Msg){
		func(q *mdns.Msg) { q.RecursionDesired = false },
		func(q *mdns.Msg) { q.Question[0].Qtype = mdns.TypeANY },
		func(q *mdns.Msg) { q.Question[0].Qtype = mdns.TypeAXFR },
		func(q *mdns.Msg) { q.Question[0].Qclass = mdns.ClassCHAOS },
	} {
		q := new(mdns.Msg).SetQuestion("example.com.", mdns.TypeA)
		change(q)
		if got := say(exchange(t, s, "tcp", q)); got != "REFUSED" {
			t.Errorf("%v: %s", q.Question, got)
		}
	}
	if got := slices.Compact(u.questions()); !slices.Equal(got, slices.Compact(forwarded)) {
		t.Errorf("asked outside: %q, want %q", got, forwarded)
	}
}

// Only the question is passed on: not the guest's ID, nor options, which could carry
// anything; and the answer has EDNS where the guest has used it.
func TestForwardsTheQuestionAlone(t *testing.T) {
	u := newUpstream(t, worldly)
	s := guests(t, outside(), u.addr)
	q := new(mdns.Msg).SetQuestion("example.com.", mdns.TypeA)
	q.SetEdns0(4096, true)
	q.IsEdns0().Option = append(q.IsEdns0().Option, &mdns.EDNS0_LOCAL{Code: mdns.EDNS0LOCALSTART, Data: []byte("secret")})
	m := exchange(t, s, "udp", q)
	if o := m.IsEdns0(); o == nil || !o.Do() || o.UDPSize() != 1232 || len(m.Answer) != 1 {
		t.Errorf("answered %v", m)
	}
	u.mu.Lock()
	got := u.asked[0]
	u.mu.Unlock()
	if got.Id == q.Id || len(got.IsEdns0().Option) > 0 || !got.IsEdns0().Do() || got.IsEdns0().UDPSize() != 1232 {
		t.Errorf("asked %v", got)
	}
	if m := exchange(t, s, "udp", new(mdns.Msg).SetQuestion("example.com.", mdns.TypeA)); m.IsEdns0() != nil {
		t.Errorf("EDNS to whom does not speak it: %v", m)
	}
}

// The next server is asked where one does not answer, or not what it was asked; a
// long answer is cut by UDP and whole by TCP.
func TestServers(t *testing.T) {
	free := newUpstream(t, worldly)
	wrong := newUpstream(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		m := new(mdns.Msg).SetReply(q)
		m.Question[0].Name = "other.example."
		_ = w.WriteMsg(m)
	})
	l, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.LocalAddr().(*net.UDPAddr).AddrPort()
	l.Close()
	q := func() *mdns.Msg { return new(mdns.Msg).SetQuestion("example.com.", mdns.TypeA) }
	if got := say(exchange(t, guests(t, outside(), nobody, wrong.addr, free.addr), "udp", q())); !strings.HasPrefix(got, "NOERROR ra example.com.") {
		t.Errorf("the third server: %s", got)
	}
	for name, servers := range map[string][]netip.AddrPort{"none": nil, "nobody": {nobody}, "wrong": {wrong.addr}} {
		if got := say(exchange(t, guests(t, outside(), servers...), "udp", q())); got != "SERVFAIL" {
			t.Errorf("%s: %s", name, got)
		}
	}
	long := newUpstream(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		m := new(mdns.Msg).SetReply(q)
		for i := range 200 {
			m.Answer = append(m.Answer, &mdns.A{Hdr: mdns.RR_Header{Name: q.Question[0].Name, Rrtype: mdns.TypeA, Class: mdns.ClassINET, Ttl: 1}, A: net.IPv4(192, 0, 2, byte(i))})
		}
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			m.Truncate(512)
		}
		_ = w.WriteMsg(m)
	})
	s := guests(t, outside(), long.addr)
	if m := exchange(t, s, "udp", q()); !m.Truncated {
		t.Errorf("by UDP: %v", m)
	}
	if m := exchange(t, s, "tcp", q()); m.Truncated || len(m.Answer) != 200 {
		t.Errorf("by TCP: %d records", len(m.Answer))
	}
}

// Who reaches no world asks nothing there, and who is no guest is not answered.
func TestInside(t *testing.T) {
	u := newUpstream(t, worldly)
	if got := say(exchange(t, guests(t, sample(), u.addr), "udp", new(mdns.Msg).SetQuestion("example.com.", mdns.TypeA))); got != "REFUSED" {
		t.Errorf("without a way out: %s", got)
	}
	if asked := u.questions(); len(asked) > 0 {
		t.Errorf("asked outside: %q", asked)
	}
	asker := make(chan netip.Addr, 1)
	s, err := dns.ListenForGuests(t.Context(), []netip.AddrPort{anyPort}, func(_ context.Context, a netip.Addr) (*dns.Names, error) {
		asker <- a
		return nil, nil
	}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, s, "udp")
	if _, err := c.Write(pack(t, new(mdns.Msg).SetQuestion("web.vm.", mdns.TypeA))); err != nil {
		t.Fatal(err)
	}
	if a := <-asker; a != addr("127.0.0.1") {
		t.Errorf("asked by %s", a)
	}
	end(t, s) // whatever it had to say it has said
	if err := c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 512)); err == nil {
		t.Errorf("%d bytes for nobody", n)
	}
}

// One guest does not take all that there is: so many questions outside at a time, so
// many connections.
func TestLimits(t *testing.T) {
	const each, conns = 32, 8
	release, asked := make(chan struct{}), make(chan struct{}, 2*each)
	u := newUpstream(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		asked <- struct{}{}
		<-release
		worldly(w, q)
	})
	s := guests(t, outside(), u.addr)
	c := dial(t, s, "udp")
	for range each {
		if _, err := c.Write(pack(t, new(mdns.Msg).SetQuestion("example.com.", mdns.TypeA))); err != nil {
			t.Fatal(err)
		}
	}
	for range each {
		<-asked
	}
	if got := say(exchange(t, s, "udp", new(mdns.Msg).SetQuestion("example.com.", mdns.TypeA))); got != "SERVFAIL" {
		t.Errorf("one more: %s", got)
	}
	if got := say(exchange(t, s, "udp", new(mdns.Msg).SetQuestion("web.vm.", mdns.TypeA))); !strings.HasPrefix(got, "NOERROR") {
		t.Errorf("of a VM: %s", got)
	}
	close(release)
	b := make([]byte, 512)
	for range each {
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	if got := say(exchange(t, s, "udp", new(mdns.Msg).SetQuestion("example.com.", mdns.TypeA))); !strings.HasPrefix(got, "NOERROR ra") {
		t.Errorf("after it: %s", got)
	}

	open := make([]net.Conn, conns)
	for i := range open {
		open[i] = dial(t, s, "tcp")
	}
	if n, err := dial(t, s, "tcp").Read(b); n > 0 || err == nil {
		t.Errorf("a connection more is let in: %d, %v", n, err)
	}
	open[0].Close()
	for { // until the server has seen that
		c := mdns.Client{Net: "tcp", Timeout: limit}
		if m, _, err := c.Exchange(new(mdns.Msg).SetQuestion("web.vm.", mdns.TypeA), s.Addr().String()); err == nil && m.Rcode == mdns.RcodeSuccess {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("nobody else is let in")
		}
	}
}

// A server that ends does not wait for what is asked outside.
func TestCloseWhileAsking(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	u := newUpstream(t, func(mdns.ResponseWriter, *mdns.Msg) { close(asked); <-release })
	defer close(release)
	s, err := dns.ListenForGuests(t.Context(), []netip.AddrPort{anyPort}, fixed(outside()), func() []netip.AddrPort { return []netip.AddrPort{u.addr} }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, s, "udp")
	if _, err := c.Write(pack(t, new(mdns.Msg).SetQuestion("example.com.", mdns.TypeA))); err != nil {
		t.Fatal(err)
	}
	<-asked
	end(t, s)
	b := make([]byte, 512)
	n, err := c.Read(b)
	m := new(mdns.Msg)
	if err != nil || m.Unpack(b[:n]) != nil || m.Rcode != mdns.RcodeServerFailure {
		t.Errorf("answered %v, %v", m, err)
	}
}

// Each guest is told of those that it may see.
func TestForGuest(t *testing.T) {
	subnet := netip.MustParsePrefix("10.9.16.0/20")
	all := vms()
	for i := range all {
		all[i].ID = banger.VMID(all[i].Name)
		all[i].NAT = banger.NATWanted
	}
	lonely := all[0]
	lonely.ID, lonely.Name, lonely.Addr, lonely.Isolated, lonely.NAT = "lonely", "lonely", addr("10.9.16.20"), true, banger.NATOff
	all = append(all, lonely)
	host := banger.VM{Spec: banger.Spec{Name: "host"}} // none: it is the gateway
	for _, i := range []int{0, len(all) - 1} {
		all[i].AllowHost = []banger.HostPort{{Port: 80, Proto: banger.TCP}}
	}
	for _, c := range []struct {
		asker   string
		sees    string
		outside bool
	}{
		{"10.9.16.3", "web db host", true},
		{"10.9.31.4", "web db", true},
		{"10.9.16.20", "lonely host", false},
		{"10.9.16.5", "", false},  // does not run
		{"10.9.16.7", "", false},  // of mode user
		{"10.9.16.99", "", false}, // nobody
		{"192.0.2.1", "", false},
	} {
		n := dns.ForGuest(subnet, all, addr(c.asker))
		if n == nil || c.sees == "" {
			if n != nil || c.sees != "" {
				t.Errorf("%s: %v", c.asker, n)
			}
			continue
		}
		s := serve(t, fixed(n))
		var sees []string
		for _, v := range append(slices.Clone(all), host) {
			if m := exchange(t, s, "udp", new(mdns.Msg).SetQuestion(v.Name+".vm.", mdns.TypeA)); m.Rcode == mdns.RcodeSuccess && len(m.Answer) == 1 {
				sees = append(sees, v.Name)
				if a := m.Answer[0].(*mdns.A).A.String(); (a == "10.9.16.1") != (v.Name == "host") {
					t.Errorf("%s is told that %s is %s", c.asker, v.Name, a)
				}
			}
		}
		if got := strings.Join(sees, " "); got != c.sees || n.Outside != c.outside {
			t.Errorf("%s sees %q, outside %v", c.asker, got, n.Outside)
		}
	}
}
