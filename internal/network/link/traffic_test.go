package link_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/network"
	"banger/internal/network/addr"
	"banger/test/netns"
)

var gateway = network.SubnetOf(subnet).Gateway

// hostAddr is an address of the host's beside the gateway.
var hostAddr = netip.MustParseAddr("192.0.2.1")

// lan gives the host an uplink.
func lan(t *testing.T) {
	a := netlink.NewLinkAttrs()
	a.Name = "lan0"
	l := &netlink.Ifb{LinkAttrs: a}
	must(0, netlink.LinkAdd(l))
	must(0, netlink.AddrAdd(l, must(netlink.ParseAddr(hostAddr.String()+"/24"))))
	must(0, netlink.LinkSetUp(l))
}

func flushRules(t *testing.T) {
	c := must(nftables.New())
	c.FlushRuleset()
	must(0, c.Flush())
}

// send sends one datagram from a new socket of g's with that source address.
func (g *guest) send(t *testing.T, source, to netip.Addr, text string) {
	t.Helper()
	fd := g.udp(t, 0, source)
	g.in(func() {
		if err := unix.Sendto(fd, []byte(text), 0, sockaddr(to, 4242)); err != nil {
			t.Errorf("send to %s: %v", to, err)
		}
	})
}

// The host reaches a guest, by TCP and as often as it likes; the guest's
// answers come back, and nothing that the guest begins arrives, at whatever
// address of the host: but for a ping of the gateway.
func TestGuestToHost(t *testing.T) {
	netns.Enter(t)
	lan(t)
	apply(t, config(tap(1), tap(2)))
	g := plug(t, tap(1))
	var host *guest
	if !host.ping(g.tap.Addr) {
		t.Fatal("the host does not reach the guest")
	}
	var l net.Listener
	g.Do(func() { l = must(net.Listen("tcp4", ":7777")) })
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			fmt.Fprintf(c, "hello %s", c.RemoteAddr().(*net.TCPAddr).IP)
			c.Close()
		}
	}()
	c := must(net.Dial("tcp4", g.tap.Addr.String()+":7777"))
	b := make([]byte, 100)
	n, _ := c.Read(b)
	c.Close()
	if want := "hello " + gateway.String(); string(b[:n]) != want {
		t.Errorf("over TCP %q, want %q", b[:n], want)
	}

	inbox := host.udp(t, 4242, netip.Addr{})
	listener := must(net.Listen("tcp4", ":4242"))
	defer listener.Close()
	targets := []netip.Addr{gateway, hostAddr, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("255.255.255.255")}
	try := func() (arrived string) {
		for _, to := range targets[:2] {
			g.send(t, netip.Addr{}, to, "hi")
		}
		var fd int
		g.Do(func() {
			fd = must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0))
			_ = unix.Connect(fd, sockaddr(hostAddr, 4242)) // EINPROGRESS
		})
		defer unix.Close(fd)
		if !g.ping(gateway) {
			t.Error("the gateway does not answer a ping")
		}
		for s := received(inbox); s != ""; s = received(inbox) {
			arrived += s
		}
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if n, _ := unix.Poll(p, 0); n > 0 {
			arrived += " tcp"
		}
		return arrived
	}
	if got := try(); got != "" {
		t.Errorf("the guest reached the host: %q", got)
	}
	apply(t, config(tap(1), tap(2)))
	// That the same does arrive without the rules shows that it was sent.
	flushRules(t)
	if got := try(); got != "hihi tcp" {
		t.Errorf("without rules arrived %q", got)
	}
}

// Only the gateway answers a ping.
func TestPing(t *testing.T) {
	netns.Enter(t)
	lan(t)
	apply(t, config(tap(1)))
	g := plug(t, tap(1))
	var got []netip.Addr
	g.Do(func() {
		fd := must(unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP))
		defer unix.Close(fd)
		must(0, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
		for _, to := range []netip.Addr{hostAddr, gateway} { // the gateway last: its answer says that the others' are overdue
			must(0, unix.Sendto(fd, echo(), 0, sockaddr(to, 0)))
		}
		b := make([]byte, 1500)
		for {
			n, from, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				return
			}
			if a := netip.AddrFrom4(from.(*unix.SockaddrInet4).Addr); n >= 28 && b[20] == 0 {
				got = append(got, a)
				if a == gateway {
					return
				}
			}
		}
	})
	if len(got) != 1 || got[0] != gateway {
		t.Errorf("answers from %v", got)
	}
}

// VMs reach each other through the host, although it forwards nothing else; an
// isolated one reaches nobody and is reached by nobody, and the host reaches
// both.
func TestBetweenGuests(t *testing.T) {
	netns.Enter(t)
	lan(t)
	c := config(tap(1), tap(2), isolated(tap(3)))
	apply(t, c)
	g := []guest{plug(t, tap(1)), plug(t, tap(2)), plug(t, tap(3))}
	var inbox []int
	for n := range g {
		inbox = append(inbox, g[n].udp(t, 4242, netip.Addr{}))
	}
	var host *guest
	try := func(from, to int) string {
		g[from].send(t, netip.Addr{}, g[to].tap.Addr, "hi")
		if !g[from].ping(gateway) || !host.ping(g[to].tap.Addr) {
			t.Errorf("%d or %d and the host do not reach each other", from+1, to+1)
		}
		return received(inbox[to])
	}
	table := func() (s string) {
		for from := range g {
			for to := range g {
				if from != to {
					s += fmt.Sprintf("%d>%d:%s ", from+1, to+1, try(from, to))
				}
			}
		}
		return s
	}
	if got, want := table(), "1>2:hi 1>3: 2>1:hi 2>3: 3>1: 3>2: "; got != want {
		t.Errorf("isolated 3: %s, want %s", got, want)
	}
	apply(t, config(tap(1), tap(2), tap(3)))
	if got, want := table(), "1>2:hi 1>3:hi 2>1:hi 2>3:hi 3>1:hi 3>2:hi "; got != want {
		t.Errorf("nobody isolated: %s, want %s", got, want)
	}
}

// A guest cannot send as another: strict rp_filter drops it, and so do the
// rules, each without the other.
func TestSpoofed(t *testing.T) {
	netns.Enter(t)
	lan(t)
	apply(t, config(tap(1), tap(2), tap(3)))
	g, victim := plug(t, tap(1)), plug(t, tap(3))
	inbox := victim.udp(t, 4242, netip.Addr{})
	lies := []netip.Addr{tap(2).Addr, tap(200).Addr, gateway, hostAddr, netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("10.77.16.0")}
	var host *guest
	try := func() (arrived string) {
		for n, a := range lies {
			g.send(t, a, victim.tap.Addr, fmt.Sprint(n))
		}
		g.send(t, g.tap.Addr, victim.tap.Addr, "true")
		if !host.ping(g.tap.Addr) || !host.ping(victim.tap.Addr) {
			t.Error("no answer")
		}
		for s := received(inbox); s != ""; s = received(inbox) {
			arrived += s + " "
		}
		return arrived
	}
	if got := try(); got != "true " {
		t.Errorf("with both arrived %q", got)
	}
	flushRules(t)
	if got := try(); got != "true " {
		t.Errorf("with rp_filter alone arrived %q", got)
	}
	apply(t, config(tap(1), tap(2), tap(3)))
	must(0, os.WriteFile("/proc/sys/net/ipv4/conf/"+tapName(1)+"/rp_filter", []byte("0"), 0))
	if got := try(); got != "true " {
		t.Errorf("with the rules alone arrived %q", got)
	}
	flushRules(t)
	must(0, os.WriteFile("/proc/sys/net/ipv4/conf/"+tapName(1)+"/accept_local", []byte("1"), 0))
	if got := try(); got == "true " || got == "" {
		t.Errorf("with neither arrived %q: the test shows nothing", got)
	}
}

// Nothing else of the host's forwards into or out of a tap: not its uplink, not
// another user's taps.
func TestOutside(t *testing.T) {
	netns.Enter(t)
	lan(t)
	apply(t, config(tap(1)))
	must(0, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)) // as Docker does
	apply(t, config(tap(1)))
	g := plug(t, tap(1))
	other := plugElsewhere(t)
	inside, outside := g.udp(t, 4242, netip.Addr{}), other.udp(t, 4242, netip.Addr{})
	var host *guest
	try := func() string {
		g.send(t, netip.Addr{}, other.tap.Addr, "out")
		other.send(t, netip.Addr{}, g.tap.Addr, "in")
		if !g.ping(gateway) || !host.ping(g.tap.Addr) || !host.ping(other.tap.Addr) {
			t.Error("no answer")
		}
		return received(inside) + received(outside)
	}
	if got := try(); got != "" {
		t.Errorf("forwarded %q", got)
	}
	flushRules(t)
	if got := try(); got != "inout" {
		t.Errorf("without rules forwarded %q", got)
	}
}

// plugElsewhere is a machine on a link that is none of banger's.
func plugElsewhere(t *testing.T) guest {
	a := network.Tap{VM: "other", Addr: netip.MustParseAddr("198.51.100.9")}
	l := openTap(t, addr.TapName(uid, tag, a.VM))
	t.Cleanup(func() { l.Close() })
	link := byName(t, addr.TapName(uid, tag, a.VM))
	must(0, unix.IoctlSetInt(int(l.Fd()), unix.TUNSETPERSIST, 1))
	l.Close()
	must(0, netlink.LinkSetHardwareAddr(link, must(net.ParseMAC(addr.TapMAC(uid, tag, a.VM)))))
	must(0, netlink.AddrAdd(link, must(netlink.ParseAddr("198.51.100.1/24"))))
	must(0, netlink.LinkSetUp(link))
	return plug(t, a)
}
