package e2e

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// A route that comes later and overlaps the VMs' subnet is reported with a command that,
// as it stands there, is the remedy.
func TestLaterOverlap(t *testing.T) {
	l := newLAN(t)
	subnet := netip.MustParsePrefix(strings.TrimSpace(l.ok("network", "show", "-q")))
	up, err := netlink.LinkByName("uplink")
	must(t, err)
	dst, err := netlink.ParseIPNet(netip.PrefixFrom(subnet.Addr(), 16).Masked().String())
	must(t, err)
	route := &netlink.Route{LinkIndex: up.Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK} // as of a VPN
	must(t, netlink.RouteAdd(route))
	defer func() { must(t, netlink.RouteDel(route)) }()
	told := l.run("doctor").out
	remedy := regexp.MustCompile(`banger stop --all && (banger network move [0-9./]+)`).FindStringSubmatch(told)
	if !strings.Contains(told, dst.String()) || remedy == nil {
		t.Fatalf("doctor says\n%s", told)
	}
	l.ok("stop", "--all")
	l.ok(strings.Fields(remedy[1])[1:]...)
	if told = l.run("doctor").out; strings.Contains(told, dst.String()) {
		t.Errorf("after %s doctor says\n%s", remedy[1], told)
	}
}

// Two installations on one host: their VMs run side by side, do not reach each other,
// and the end of one leaves the other alone. The same, once all processes of banger's have
// stood still for some seconds, as they do while the host is suspended.
func TestTwoInstallations(t *testing.T) {
	l := newLAN(t)
	second := &lan{box: fresh(t), uplink: l.uplink}
	a, b := l.boot("a", "--network", "routed", "--publish", fmt.Sprintf("%d:%d", loopPort, webPort)), second.boot("b", "--network", "routed")
	l.serve("a", webPort)
	second.serve("b", webPort)
	whole := func(when string) {
		t.Helper()
		if l.reaches("a", b.Addr, webPort) || second.reaches("b", a.Addr, webPort) {
			t.Errorf("%s: VMs of two installations reach each other", when)
		}
		if got := l.dial(a.Addr, webPort); !strings.HasPrefix(got, "hello") {
			t.Errorf("%s: the first is not reached: %q", when, got)
		}
		if got := l.dial(b.Addr, webPort); !strings.HasPrefix(got, "hello") {
			t.Errorf("%s: the second is not reached: %q", when, got)
		}
		if got := l.dial(netip.MustParseAddr("127.0.0.1"), loopPort); !strings.HasPrefix(got, "hello") {
			t.Errorf("%s: a published port: %q", when, got)
		}
		if got := l.dig("+short a.vm"); !strings.Contains(got, a.Addr.String()) {
			t.Errorf("%s: a.vm is %q", when, got)
		}
		if got := second.dig("+short b.vm"); !strings.Contains(got, b.Addr.String()) {
			t.Errorf("%s: b.vm is %q", when, got)
		}
		if got := second.dig("a.vm"); !strings.Contains(got, "status: NXDOMAIN") {
			t.Errorf("%s: the second knows of the first's: %q", when, got)
		}
	}
	whole("at first")

	_, port, _ := strings.Cut(strings.TrimSpace(l.ok("dns", "status", "-q")), ":")
	asleep := []int{l.daemonPID(), second.daemonPID(), l.rootPID(), a.PID, b.PID}
	for _, pid := range asleep {
		must(t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	if out, err := l.sh("dig @127.0.0.1 -p " + port + " +time=3 +tries=1 a.vm"); err == nil {
		t.Errorf("a daemon that stands still answers: %s", out)
	}
	for _, pid := range asleep {
		must(t, syscall.Kill(pid, syscall.SIGCONT))
	}
	whole("after a sleep")
	for _, c := range []struct {
		box
		name string
		pid  int
		addr netip.Addr
	}{{l.box, "a", a.PID, a.Addr}, {second.box, "b", b.PID, b.Addr}} {
		if v := c.show(c.name); v.PID != c.pid || v.Addr != c.addr || !v.Ready || v.Problem != nil {
			t.Errorf("after a sleep: %+v", v)
		}
	}

	second.ok("vm", "delete", "--force", "b")
	if got := l.dial(a.Addr, webPort); !strings.HasPrefix(got, "hello") {
		t.Errorf("after the second's end the first is not reached: %q", got)
	}
	if !l.reaches("a", a.Addr, webPort) {
		t.Error("after the second's end commands in the first do not work")
	}
}
