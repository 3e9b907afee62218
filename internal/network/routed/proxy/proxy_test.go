package proxy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network/routed/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const limit = 30 * time.Second

// guest is where the tests' guest has its services.
var guest = netip.MustParseAddr("127.0.0.2")

// lead listens on a free port of an address for a port of the guest's.
func lead(t *testing.T, at string, port uint16, proto banger.Proto) netip.AddrPort {
	t.Helper()
	for range 20 { // somebody else may be faster
		host := netip.AddrPortFrom(netip.MustParseAddr(at), free(t))
		p, err := proxy.Listen(banger.Publish{Host: host, Guest: port, Proto: proto}, guest, slog.New(slog.DiscardHandler))
		if err == nil {
			t.Cleanup(p.Close)
			return host
		}
		t.Log(err)
	}
	t.Fatal("no free port")
	return netip.AddrPort{}
}

// free is a port that nobody has.
func free(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// serve has the guest do that with each connection.
func serve(t *testing.T, do func(*net.TCPConn)) (port uint16) {
	t.Helper()
	l, err := net.Listen("tcp4", guest.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer c.Close(); do(c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

func dial(t *testing.T, network string, to netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.Dial(network, to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	return c
}

// All that is sent arrives, both ways and at once, and each end hears of the other's
// end while its own words still go on.
func TestStreams(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	port := serve(t, func(c *net.TCPConn) {
		got, err := io.ReadAll(c) // until the client has said that it ends
		fmt.Fprintf(c, "%d %v ", len(got), err)
		_, _ = c.Write(got)
	})
	at := lead(t, "127.0.0.1", port, banger.TCP)
	var all sync.WaitGroup
	for range 8 {
		c := dial(t, "tcp4", at).(*net.TCPConn)
		all.Go(func() {
			if _, err := c.Write(big); err != nil {
				t.Error(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
			got, err := io.ReadAll(c)
			if want := fmt.Sprintf("%d <nil> %s", len(big), big); err != nil || string(got) != want {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	all.Wait()
}

// A connection that the guest does not take, or breaks off, is reset: it must not look
// like one that has ended well.
func TestReset(t *testing.T) {
	broken := serve(t, func(c *net.TCPConn) {
		_, _ = c.Write([]byte("half"))
		_, _ = c.Read(make([]byte, 1))
		_ = c.SetLinger(0)
	})
	for what, port := range map[string]uint16{"": free(t), "half": broken} {
		c, err := net.Dial("tcp4", lead(t, "127.0.0.1", port, banger.TCP).String())
		if errors.Is(err, unix.ECONNRESET) && what == "" {
			continue // so soon
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4)
		n, err := io.ReadFull(c, b)
		if err == nil {
			_, _ = c.Write([]byte("x"))
			_, err = c.Read(make([]byte, 1))
		}
		if string(b[:n]) != what || !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
			t.Errorf("%q, then %v", b[:n], err)
		}
	}
}

// What ends ends all that went through it, and the port is free.
func TestClose(t *testing.T) {
	port := serve(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	at := []banger.Publish{
		{Host: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), free(t)), Guest: port, Proto: banger.TCP},
		{Host: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), free(t)), Guest: port, Proto: banger.UDP},
	}
	for range 3 {
		p, err := proxy.Listen(at[0], guest, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		q, err := proxy.Listen(at[1], guest, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		c := dial(t, "tcp4", at[0].Host)
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := dial(t, "udp4", at[1].Host).Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		p.Close()
		q.Close()
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("after Close: %d, %v", n, err)
		}
	}
}

// A port that another program has is an error that says how to see which.
func TestTaken(t *testing.T) {
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for _, c := range []struct{ host, word string }{
		{tcp.Addr().String(), "another program listens"},
		{"203.0.113.77:8080", "the host has no address 203.0.113.77"},
	} {
		_, err := proxy.Listen(banger.Publish{Host: netip.MustParseAddrPort(c.host), Guest: 80, Proto: banger.TCP}, guest, slog.New(slog.DiscardHandler))
		if e := banger.AsError(err); e == nil || e.Code != banger.HostUnready || !strings.Contains(e.Message, c.word) || e.Remedy == "" {
			t.Errorf("%s: %v", c.host, err)
		}
	}
}

// Each client by UDP gets its own answers, from the address that it asked, on a port of
// all addresses, too.
func TestDatagrams(t *testing.T) {
	pc, err := net.ListenPacket("udp4", guest.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	var ended sync.WaitGroup
	ended.Go(func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(append([]byte("re: "), b[:n]...), from)
		}
	})
	defer func() { pc.Close(); ended.Wait() }()
	at := lead(t, "0.0.0.0", pc.LocalAddr().(*net.UDPAddr).AddrPort().Port(), banger.UDP)
	for i := range 20 {
		// A connected socket hears whom it asked, and nobody else.
		c := dial(t, "udp4", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(10 + i)}), at.Port()))
		for j := range 3 {
			want := fmt.Sprintf("re: %d %d", i, j)
			b := make([]byte, 100)
			if _, err := c.Write([]byte(want[4:])); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Read(b); err != nil || string(b[:n]) != want {
				t.Fatalf("%q, %v; want %q", b[:n], err, want)
			}
		}
	}
}

// One client more than there may be is not answered, and the others are.
func TestTooManyTalks(t *testing.T) {
	const most = 256
	pc, err := net.ListenPacket("udp4", guest.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	at := lead(t, "127.0.0.1", pc.LocalAddr().(*net.UDPAddr).AddrPort().Port(), banger.UDP)
	b := make([]byte, 10)
	first := dial(t, "udp4", at)
	for i := range most + 1 {
		c := first
		if i > 0 {
			c = dial(t, "udp4", at)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if i < most {
			if _, _, err := pc.ReadFrom(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := first.Write([]byte("first")); err != nil {
		t.Fatal(err)
	}
	if n, _, err := pc.ReadFrom(b); err != nil || string(b[:n]) != "first" {
		t.Errorf("the guest hears %q, %v", b[:n], err)
	}
}
