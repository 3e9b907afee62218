package link_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
	"banger/test/netns"
)

func let(t network.Tap, ports ...banger.HostPort) network.Tap { t.Allow = ports; return t }

// reaches reports whether something from that source port, 0 for any, is answered by
// an answerer; where that is expected it waits for it.
func (g *guest) reaches(t *testing.T, proto banger.Proto, source int, to netip.AddrPort, expected bool) bool {
	t.Helper()
	kind := unix.SOCK_DGRAM
	if proto == banger.TCP {
		kind = unix.SOCK_STREAM
	}
	var fd int
	g.in(func() {
		fd = must(unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0))
		must(0, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		must(0, unix.Bind(fd, &unix.SockaddrInet4{Port: source}))
		_ = unix.Connect(fd, sockaddr(to.Addr(), int(to.Port()))) // EINPROGRESS
		if proto == banger.UDP {
			_, _ = unix.Write(fd, []byte("who"))
		}
	})
	defer unix.Close(fd)
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if !g.ping(gateway) {
		t.Error("the gateway does not answer a ping")
	}
	wait := 20 // ms: an answer takes a goroutine's turn longer than a ping does
	if expected {
		wait = 10000
	}
	_, _ = unix.Poll(p, wait)
	return p[0].Revents == unix.POLLIN
}

// A port of the host is open to one guest, by one protocol, at the gateway's address,
// and to nobody and nowhere else; at once, and no longer than it is set, also for
// connections that are up. All of that is elements of sets.
func TestAllowHost(t *testing.T) {
	netns.Enter(t)
	lan(t)
	before := world(t)
	apply(t, config(tap(1), isolated(tap(2))))
	port := answerer(t, netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
	other := answerer(t, netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
	tcp, udp := banger.HostPort{Port: port, Proto: banger.TCP}, banger.HostPort{Port: port, Proto: banger.UDP}
	guests := []guest{plug(t, tap(1)), plug(t, tap(2))}
	type try struct {
		guest  int
		proto  banger.Proto
		source int
		to     netip.AddrPort
	}
	at := func(a netip.Addr, p uint16) netip.AddrPort { return netip.AddrPortFrom(a, p) }
	var tries []try
	for g := range guests {
		for _, proto := range []banger.Proto{banger.TCP, banger.UDP} {
			for _, source := range []int{0, 1023} {
				tries = append(tries, try{g, proto, source, at(gateway, port)})
			}
			tries = append(tries, try{g, proto, 0, at(gateway, other)}, try{g, proto, 0, at(hostAddr, port)},
				try{g, proto, 0, at(network.SubnetOf(subnet).Resolver, port)})
		}
	}
	rules0 := handles(t)
	check := func(what string, c network.Config, open ...try) {
		t.Helper()
		apply(t, c)
		if again := apply(t, c); len(again) > 0 {
			t.Errorf("%s: again changed %v", what, again)
		}
		if got := handles(t); got != rules0 {
			t.Errorf("%s: rules were made anew", what)
		}
		for _, one := range tries {
			want := false
			for _, o := range open {
				want = want || o == one
			}
			if got := guests[one.guest].reaches(t, one.proto, one.source, one.to, want); got != want {
				t.Errorf("%s: %+v: %t, want %t", what, one, got, want)
			}
		}
	}
	check("nothing", config(tap(1), isolated(tap(2))))
	check("TCP to the first", config(let(tap(1), tcp), isolated(tap(2))), try{0, banger.TCP, 0, at(gateway, port)})
	check("UDP to the second, which is isolated", config(tap(1), let(isolated(tap(2)), udp)), try{1, banger.UDP, 0, at(gateway, port)})
	check("all to both", config(let(tap(1), tcp, udp), let(isolated(tap(2)), tcp, udp)),
		try{0, banger.TCP, 0, at(gateway, port)}, try{0, banger.UDP, 0, at(gateway, port)},
		try{1, banger.TCP, 0, at(gateway, port)}, try{1, banger.UDP, 0, at(gateway, port)})

	l := must(net.Listen("tcp4", gateway.String()+":0"))
	defer l.Close()
	held := banger.HostPort{Port: uint16(l.Addr().(*net.TCPAddr).Port), Proto: banger.TCP}
	apply(t, config(let(tap(1), held), isolated(tap(2))))
	var near net.Conn
	guests[0].in(func() { near = must(net.DialTimeout("tcp4", l.Addr().String(), 20*time.Second)) })
	defer near.Close()
	far := must(l.Accept())
	defer far.Close()
	say := func() string {
		must(fmt.Fprint(near, "hello"))
		if !guests[0].ping(gateway) {
			t.Error("the gateway does not answer a ping")
		}
		must(0, far.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
		b := make([]byte, 10)
		n, _ := far.Read(b)
		return string(b[:n])
	}
	if got := say(); got != "hello" {
		t.Errorf("in a connection arrived %q", got)
	}
	check("nothing again", config(tap(1), isolated(tap(2))))
	if got := say(); got != "" {
		t.Errorf("in a connection that was up, afterwards, arrived %q", got)
	}
	closed(t, before)
}

// handles are the rules with the kernel's numbers, without elements.
func handles(t *testing.T) string {
	var only []string
	for l := range strings.Lines(rules(t, true)) {
		if strings.Contains(l, "handle=") {
			only = append(only, l)
		}
	}
	return strings.Join(only, "")
}
