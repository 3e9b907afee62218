package link_test

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger/internal/network/link"
	"banger/test/netns"
)

// flood sends n datagrams to that address, each from another port, which would be as
// many connections.
func (g *guest) flood(t *testing.T, n int, to netip.Addr) {
	var fd int
	g.in(func() { fd = must(unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)) })
	defer unix.Close(fd)
	b := make([]byte, 8)
	for i := range n {
		binary.BigEndian.PutUint16(b, uint16(1024+i))
		binary.BigEndian.PutUint16(b[2:], 4242)
		binary.BigEndian.PutUint16(b[4:], 8)
		must(0, unix.Sendto(fd, b, 0, sockaddr(to, 0)))
		if i%100 == 99 && !g.ping(gateway) { // a tap's queue is short
			t.Error("the gateway does not answer a ping")
		}
	}
}

// tracked is how many connections the kernel knows of in this namespace.
func tracked() int {
	text := must(os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count"))
	return must(strconv.Atoi(strings.TrimSpace(string(text))))
}

// A guest that begins more and more connections gets as many as it may have, in the
// host's table, too; the next one's come up all the while.
func TestLimits(t *testing.T) {
	const some, many, flows = 50, 1000, 300 // some: pings, and what the test itself begins
	for name, c := range map[string]struct {
		router   *link.Router
		at, most int
	}{
		"open ones": {link.NewLimited(uid, flows, 100000, 100000), flows, flows + some},
		"new ones":  {link.NewLimited(uid, 100000, 1, flows), flows, flows + some + 60}, // a minute's
	} {
		netns.Enter(t)
		world0 := internet(t)
		world0.greet(t)
		must(c.router.Apply(config(nat(tap(1)), nat(tap(2)))))
		bad, good := plug(t, tap(1)), plug(t, tap(2))
		bad.flood(t, many, far)
		world0.through(t, &good)
		if n := tracked(); n < c.at/2 || n > c.most {
			t.Errorf("%s: %d connections after %d were begun", name, n, many)
		}
		if got := good.fetch(far); got != wanAddr.String() {
			t.Errorf("%s: another guest fetches %q", name, got)
		}
		if again := must(c.router.Apply(config(nat(tap(1)), nat(tap(2))))); len(again) > 0 {
			t.Errorf("%s: again changed %v", name, again)
		}
		// To sisters, and to where it may not send, it sends as much as it likes.
		was := tracked()
		bad.flood(t, many, good.tap.Addr)
		bad.flood(t, many, hostAddr)
		if n := tracked(); n > was+some {
			t.Errorf("%s: %d connections to nowhere and to a sister", name, n-was)
		}
	}
}

// Without limits of that kind the same is as many connections as were begun.
func TestNoLimits(t *testing.T) {
	netns.Enter(t)
	internet(t)
	must(link.NewLimited(uid, 100000, 100000, 100000).Apply(config(nat(tap(1)))))
	g := plug(t, tap(1))
	g.flood(t, 1000, far)
	if n := tracked(); n < 1000 {
		t.Errorf("%d connections after 1000 were begun: TestLimits shows nothing", n)
	}
}
