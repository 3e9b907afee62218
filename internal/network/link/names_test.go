package link_test

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/network"
	"banger/test/netns"
)

// named is a Config whose guests are answered at a port of the gateway's address.
func named(port uint16, taps ...network.Tap) network.Config {
	c := config(taps...)
	c.Names = port
	return c
}

// ask sends a datagram to an address, port 53, and returns the answer, and whom it
// is from; "" if there is none within the moment that a ping of the gateway takes.
func (g *guest) ask(t *testing.T, to netip.Addr) (answer string, from netip.AddrPort) {
	t.Helper()
	fd := g.udp(t, 0, netip.Addr{})
	g.in(func() {
		if err := unix.Sendto(fd, []byte("who"), 0, sockaddr(to, 53)); err != nil {
			t.Errorf("send to %s: %v", to, err)
		}
	})
	if !g.ping(gateway) {
		t.Error("the gateway does not answer a ping")
	}
	b := make([]byte, 100)
	for range 2 { // the answer comes from a goroutine: the ping may have been faster
		n, sa, err := unix.Recvfrom(fd, b, 0)
		if err == nil {
			a := sa.(*unix.SockaddrInet4)
			return string(b[:n]), netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 200)
	}
	return "", netip.AddrPort{}
}

// answerer answers each datagram and each connection at an address of the host's
// with the address that it is from.
func answerer(t *testing.T, at netip.AddrPort) (port uint16) {
	t.Helper()
	l := must(net.Listen("tcp4", at.String()))
	at = l.Addr().(*net.TCPAddr).AddrPort()
	pc := must(net.ListenPacket("udp4", at.String()))
	t.Cleanup(func() { l.Close(); pc.Close() })
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo([]byte(from.(*net.UDPAddr).IP.String()), from)
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, c.RemoteAddr().(*net.TCPAddr).IP.String())
			c.Close()
		}
	}()
	return at.Port()
}

// Guests, isolated ones too, ask the gateway or the resolver at port 53, by UDP and
// TCP, and are answered by whoever listens at another port of the gateway's address,
// as themselves; they reach no other port by it, and other addresses of the host's
// not at all. Set again it changes nothing.
func TestNames(t *testing.T) {
	netns.Enter(t)
	lan(t)
	before := world(t)
	apply(t, config(tap(1)))
	port := answerer(t, netip.AddrPortFrom(gateway, 0))
	other := answerer(t, netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
	c := named(port, tap(1), isolated(tap(2)))
	apply(t, c)
	if again := apply(t, c); len(again) > 0 {
		t.Errorf("again changed %v\n%s", again, rules(t, false))
	}
	resolver := network.SubnetOf(subnet).Resolver
	guests := []guest{plug(t, tap(1)), plug(t, tap(2))}
	for n, tp := range c.Taps {
		g := &guests[n]
		for _, to := range []netip.Addr{gateway, resolver} {
			want := netip.AddrPortFrom(to, 53)
			if got, from := g.ask(t, to); got != tp.Addr.String() || from != want {
				t.Errorf("%s is answered %q by %s", to, got, from)
			}
			if got := g.connect(want, 20*time.Second); got != tp.Addr.String() {
				t.Errorf("%s by TCP: %q", to, got)
			}
		}
		for _, to := range []netip.AddrPort{netip.AddrPortFrom(gateway, other), netip.AddrPortFrom(resolver, port), netip.AddrPortFrom(hostAddr, 53), netip.AddrPortFrom(hostAddr, port)} {
			if got := g.connect(to, 300*time.Millisecond); !strings.HasPrefix(got, "dial") {
				t.Errorf("%s: %q", to, got)
			}
		}
	}
	apply(t, named(0, c.Taps...))
	if got, _ := guests[0].ask(t, resolver); got != "" {
		t.Errorf("after it nobody is to answer: %q", got)
	}
	closed(t, before)
}

// connect is what one says who is connected to within limit.
func (g *guest) connect(to netip.AddrPort, limit time.Duration) (said string) {
	g.in(func() {
		d := net.Dialer{Timeout: limit}
		c, err := d.Dial("tcp4", to.String())
		if err != nil {
			said = err.Error()
			return
		}
		defer c.Close()
		b, err := io.ReadAll(c)
		said = string(b)
		if err != nil {
			said += err.Error()
		}
	})
	return said
}
