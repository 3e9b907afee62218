package dns_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"go.uber.org/goleak"

	"banger/internal/dns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const limit = 30 * time.Second

var anyPort = netip.MustParseAddrPort("127.0.0.1:0")

// serve starts a server that ends with the test.
func serve(t *testing.T, v dns.View) *dns.Server {
	t.Helper()
	s, err := dns.Listen(t.Context(), []netip.AddrPort{anyPort}, v, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, s) })
	return s
}

func end(t *testing.T, s *dns.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

func exchange(t *testing.T, s *dns.Server, network string, q *mdns.Msg) *mdns.Msg {
	t.Helper()
	c := mdns.Client{Net: network, Timeout: limit, UDPSize: mdns.MaxMsgSize}
	m, _, err := c.Exchange(q, s.Addr().String())
	if err != nil {
		t.Fatalf("%v by %s: %v", q.Question, network, err)
	}
	return m
}

// dial connects to the server, for limit at most.
func dial(t *testing.T, s *dns.Server, network string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	return c
}

func exchangeRaw(t *testing.T, s *dns.Server, q []byte) []byte {
	t.Helper()
	c := dial(t, s, "udp")
	if _, err := c.Write(q); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, mdns.MaxMsgSize)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func pack(t *testing.T, m *mdns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is no question is refused by its header or not answered at all, and the
// server lives on.
func TestNotAQuestion(t *testing.T) {
	s := serve(t, fixed(sample()))
	question := func(change func(*mdns.Msg)) []byte {
		q := new(mdns.Msg).SetQuestion("web.vm.", mdns.TypeA)
		change(q)
		return pack(t, q)
	}
	a, err := mdns.NewRR("web.vm. 0 IN A 10.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	whole := question(func(*mdns.Msg) {})
	for name, c := range map[string]struct {
		raw  []byte
		code int // -1: no answer
	}{
		"a response":        {question(func(m *mdns.Msg) { m.Response = true }), -1},
		"a notification":    {question(func(m *mdns.Msg) { m.SetNotify("vm.") }), mdns.RcodeNotImplemented},
		"an update":         {question(func(m *mdns.Msg) { m.SetUpdate("vm.") }), mdns.RcodeNotImplemented},
		"two questions":     {question(func(m *mdns.Msg) { m.Question = append(m.Question, m.Question[0]) }), mdns.RcodeFormatError},
		"no question":       {question(func(m *mdns.Msg) { m.Question = nil }), mdns.RcodeFormatError},
		"with an answer":    {question(func(m *mdns.Msg) { m.Answer = []mdns.RR{a} }), mdns.RcodeFormatError},
		"cut off":           {whole[:len(whole)-3], mdns.RcodeFormatError},
		"a header alone":    {whole[:12], mdns.RcodeFormatError},
		"less than that":    {whole[:11], -1},
		"a pointer to self": {append(append([]byte{}, whole[:12]...), 0xc0, 12, 0, 1, 0, 1), mdns.RcodeFormatError},
		"too long":          {append(append([]byte{}, whole...), make([]byte, 4000)...), mdns.RcodeSuccess},
	} {
		c1 := dial(t, s, "udp")
		if _, err := c1.Write(c.raw); err != nil {
			t.Fatal(err)
		}
		// The answer to a sound question comes after one to the other, if there is any.
		probe := new(mdns.Msg).SetQuestion("db.vm.", mdns.TypeA)
		probe.Id = 4711
		if c.code < 0 {
			if _, err := c1.Write(pack(t, probe)); err != nil {
				t.Fatal(err)
			}
		}
		b := make([]byte, 4096)
		n, err := c1.Read(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m := new(mdns.Msg)
		if err := m.Unpack(b[:n]); err != nil && c.code < 0 {
			t.Errorf("%s: %v", name, err)
		}
		if c.code < 0 && m.Id != probe.Id || c.code >= 0 && m.Rcode != c.code {
			t.Errorf("%s: %s, want code %d", name, say(m), c.code)
		}
	}
}

// Listening on a port that is taken goes on to the next place; without one it is
// an error.
func TestTaken(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		var taken netip.AddrPort
		if network == "udp" {
			pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer pc.Close()
			taken = pc.LocalAddr().(*net.UDPAddr).AddrPort()
		} else {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			taken = l.Addr().(*net.TCPAddr).AddrPort()
		}
		log := slog.New(slog.DiscardHandler)
		s, err := dns.Listen(t.Context(), []netip.AddrPort{taken, anyPort}, fixed(sample()), log)
		if err != nil {
			t.Fatal(err)
		}
		if s.Addr() == taken || !errors.Is(s.Missed(), syscall.EADDRINUSE) {
			t.Errorf("%s taken: listens on %s, missed %v", network, s.Addr(), s.Missed())
		}
		exchange(t, s, "udp", new(mdns.Msg).SetQuestion("web.vm.", mdns.TypeA))
		exchange(t, s, "tcp", new(mdns.Msg).SetQuestion("web.vm.", mdns.TypeA))
		end(t, s)
		if _, err := dns.Listen(t.Context(), []netip.AddrPort{taken}, fixed(sample()), log); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s taken, and no other place: %v", network, err)
		}
	}
}

// After Close the place is free at once, also with clients that are connected.
func TestClose(t *testing.T) {
	at := []netip.AddrPort{anyPort}
	for range 20 {
		s, err := dns.Listen(t.Context(), at, fixed(sample()), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		c := dial(t, s, "tcp")
		exchange(t, s, "tcp", new(mdns.Msg).SetQuestion("web.vm.", mdns.TypeA))
		end(t, s)
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a client is still connected")
		}
		at = []netip.AddrPort{s.Addr()}
	}
}

// ended reports whether the other end of a connection has closed it by now.
func ended(t *testing.T, c net.Conn) bool {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	var rerr error
	err = raw.Control(func(fd uintptr) {
		n, _, rerr = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n == 0 && rerr == nil
}

// Clients that connect and say nothing keep nobody away for good, and one
// connection is not served for ever.
func TestConnections(t *testing.T) {
	s := serve(t, fixed(sample()))
	const crowd = 100 // more than are served at a time
	first := dial(t, s, "tcp")
	for range crowd {
		dial(t, s, "tcp")
	}
	exchange(t, s, "tcp", new(mdns.Msg).SetQuestion("web.vm.", mdns.TypeA))
	if !ended(t, first) {
		t.Error("all are served at once")
	}
	c := dial(t, s, "tcp")
	q := pack(t, new(mdns.Msg).SetQuestion("web.vm.", mdns.TypeA))
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)
	answers := 0
	for {
		if _, err := c.Write(framed); err != nil {
			break
		}
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			break
		}
		if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint16(size[:]))); err != nil {
			break
		}
		if answers++; answers > 1000 {
			t.Fatal("it is served without end")
		}
	}
	if answers < 100 {
		t.Errorf("only %d questions in a connection", answers)
	}
}

// Who asks much at once is answered each of it, and so is another one: what the server
// answers by itself, what it leaves to the library, and what is no question in between.
func TestManyAtOnce(t *testing.T) {
	s := serve(t, fixed(sample()))
	a, b := dial(t, s, "udp"), dial(t, s, "udp")
	const many = 40 // of three messages and two askers: a socket holds 270
	for n := range many {
		for _, c := range []net.Conn{a, b} {
			q := new(mdns.Msg).SetQuestion([]string{"web.vm.", "3.16.9.10.in-addr.arpa."}[n%2], []uint16{mdns.TypeA, mdns.TypePTR}[n%2])
			q.Id = uint16(n)
			for _, raw := range [][]byte{{}, {1}, pack(t, q)} {
				if _, err := c.Write(raw); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, c := range []net.Conn{a, b} {
		seen := map[uint16]bool{}
		for range many {
			raw := make([]byte, mdns.MaxMsgSize)
			n, err := c.Read(raw)
			if err != nil {
				t.Fatalf("after %d answers: %v", len(seen), err)
			}
			m := new(mdns.Msg)
			if err := m.Unpack(raw[:n]); err != nil || len(m.Answer) != 1 || int(m.Id)%2 != map[uint16]int{mdns.TypeA: 0, mdns.TypePTR: 1}[m.Question[0].Qtype] {
				t.Errorf("answered with %v (%v)", m, err)
			}
			seen[m.Id] = true
		}
		if len(seen) != many {
			t.Errorf("%d of %d questions were answered", len(seen), many)
		}
	}
}
