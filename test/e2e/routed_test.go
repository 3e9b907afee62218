package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"banger"
	"banger/internal/privileged/client"
	"banger/test/netns"
)

// A lan is a host of the test's own: a network namespace with an uplink that has
// an address, in which the daemon, banger-root and the VMMs run.
type lan struct {
	box
	uplink netip.Addr
	before string
}

// newLAN enters the namespace, so that all that is started from here on is in it.
// What more makes is the host's own.
func newLAN(t *testing.T, more ...func()) *lan {
	t.Helper()
	need(t)
	netns.Enter(t)
	l := &lan{uplink: netip.MustParseAddr("192.0.2.1")}
	up := &netlink.Ifb{LinkAttrs: netlink.NewLinkAttrs()} // no IPv6 address of its own comes late
	up.Name = "uplink"
	must(t, netlink.LinkAdd(up))
	must(t, netlink.AddrAdd(up, &netlink.Addr{IPNet: &net.IPNet{IP: l.uplink.AsSlice(), Mask: net.CIDRMask(24, 32)}}))
	must(t, netlink.LinkSetUp(up))
	for _, f := range more {
		f()
	}
	l.t = t
	l.before = netns.World()
	t.Cleanup(func() { // after the installation's own end
		l.exitRoot()
		if after := netns.World(); after != l.before {
			t.Errorf("the host is not as it was:\n%s\nbut\n%s", l.before, after)
		}
	})
	l.box = fresh(t)
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// exitRoot ends banger-root, which would wait some minutes for another daemon.
func (l *lan) exitRoot() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := client.Dial(ctx, os.Geteuid())
	if err != nil {
		return // it does not run
	}
	if err := c.Exit(ctx); err != nil {
		l.t.Errorf("end banger-root: %v", err)
	}
	<-c.Done()
}

// reaches reports whether a VM can open a TCP connection.
func (l *lan) reaches(vm string, to netip.Addr, port int) bool {
	l.t.Helper()
	r := l.run("vm", "exec", "-n", vm, "--", "timeout", "3", "bash", "-c", fmt.Sprintf("</dev/tcp/%s/%d", to, port))
	return r.code == 0
}

// serve has a VM listen for TCP on a port, and answer "hello" to each.
func (l *lan) serve(vm string, port int) {
	l.t.Helper()
	l.in(vm, fmt.Sprintf(`rm -f /tmp/serving; cat >/tmp/serve.pl <<'EOT'
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalPort => %d, Listen => 5, ReuseAddr => 1) or die $!;
open my $f, ">", "/tmp/serving"; close $f;
while (my $c = $s->accept) { print $c "hello from " . $c->peerhost . "\n"; close $c }
EOT
setsid perl /tmp/serve.pl >/dev/null 2>&1 </dev/null &
until [ -e /tmp/serving ]; do sleep 0.1; done`, port))
}

// listen has the host listen on a port of all its addresses.
func (l *lan) listen() (port int) {
	l.t.Helper()
	var lc net.ListenConfig
	s, err := lc.Listen(l.t.Context(), "tcp4", "0.0.0.0:0") // on this thread, so in this namespace
	must(l.t, err)
	l.t.Cleanup(func() { s.Close() })
	go func() {
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return s.Addr().(*net.TCPAddr).Port
}

// Ports of a guest, and of the host's that lead there.
const webPort, loopPort, widePort = 8080, 28080, 28081

// Routed taps, with real guests: who reaches whom. There are no subtests: those
// run on other threads, outside of the namespace.
func TestRouted(t *testing.T) {
	l := newLAN(t)
	a, b := l.boot("a", "--network", "routed"), l.boot("b", "--network", "routed", "--publish", fmt.Sprintf("%d:%d", loopPort, webPort), "--publish", fmt.Sprintf("0.0.0.0:%d:%d", widePort, webPort))
	gateway := netip.MustParseAddr(strings.TrimSpace(l.in("a", "ip -4 route show default | sed 's/.*via \\([0-9.]*\\).*/\\1/'")))
	l.serve("b", webPort)
	if a.Addr == b.Addr || l.in("a", "ip -4 -br addr show eth0 | grep -o '[0-9.]*/32'") != a.Addr.String()+"/32" {
		t.Errorf("addresses %s and %s", a.Addr, b.Addr)
	}
	if got := l.dial(b.Addr, webPort); !strings.HasPrefix(got, "hello from "+gateway.String()) {
		t.Errorf("host to guest: answer %q", got)
	}
	if !l.reaches("a", b.Addr, webPort) {
		t.Error("a does not reach b")
	}
	l.published(gateway)
	l.guestToHost("a", gateway)
	l.spoof(a, b, gateway)

	l.serve("a", webPort)
	apart := func(when string) {
		t.Helper()
		if l.reaches("a", b.Addr, webPort) || l.reaches("b", a.Addr, webPort) {
			t.Errorf("%s an isolated VM reaches another, or is reached", when)
		}
	}
	if !l.reaches("b", a.Addr, webPort) {
		t.Error("b does not reach a")
	}
	l.ok("vm", "set", "a", "--isolated")
	apart("while it runs")
	l.ok("vm", "restart", "a")
	l.serve("a", webPort)
	apart("started again")
	if got := l.dial(a.Addr, webPort); !strings.HasPrefix(got, "hello") {
		t.Errorf("the host does not reach an isolated VM: %q", got)
	}
}

// published ports of b lead to it, by the next daemon too; on the loopback alone where
// that was asked for, and not for guests, which reach b itself.
func (l *lan) published(gateway netip.Addr) {
	l.t.Helper()
	loopback := netip.MustParseAddr("127.0.0.1")
	for range 2 {
		for to, port := range map[netip.Addr]int{loopback: loopPort, l.uplink: widePort} {
			if got := l.dial(to, port); !strings.HasPrefix(got, "hello from "+gateway.String()) {
				l.t.Errorf("published on %s: %q", to, got)
			}
		}
		if c, err := net.Dial("tcp4", netip.AddrPortFrom(l.uplink, loopPort).String()); err == nil {
			c.Close()
			l.t.Error("a port of the loopback is had on the uplink")
		}
		if l.reaches("a", l.uplink, widePort) {
			l.t.Error("a guest reaches a published port of another")
		}
		l.ok("daemon", "restart")
		l.ok("vm", "wait", "a")
		l.ok("vm", "wait", "b")
	}
	if r := l.run(append([]string{"vm", "create", "--name", "c", "--network", "routed", "--publish", fmt.Sprintf("%d:1", l.listen())}, cheap()...)...); r.code != 5 || !strings.Contains(r.err, "another program listens") {
		l.t.Errorf("a port that is taken: %+v", r)
	}
}

// guestToHost: ping to the gateway is answered, and nothing else that a guest
// sends to any address of the host, or past it.
func (l *lan) guestToHost(vm string, gateway netip.Addr) {
	l.t.Helper()
	port := l.listen()
	for _, to := range []netip.Addr{gateway, l.uplink} {
		if got := l.dial(to, port); got != "" { // the listener is there
			l.t.Fatalf("the host does not reach itself: %q", got)
		}
	}
	if r := l.run("vm", "exec", "-n", vm, "--", "ping", "-c", "1", "-w", "10", gateway.String()); r.code != 0 {
		l.t.Errorf("ping the gateway: %+v", r)
	}
	if r := l.run("vm", "exec", "-n", vm, "--", "ping", "-c", "1", "-w", "3", l.uplink.String()); r.code == 0 {
		l.t.Error("the host's uplink answers a guest's ping")
	}
	for _, to := range []netip.Addr{gateway, l.uplink} {
		if l.reaches(vm, to, port) {
			l.t.Errorf("a guest reaches port %d of the host's %s", port, to)
		}
	}
	// Loopback addresses leave a guest only where it wants that badly.
	loopback := netip.MustParseAddr("127.0.0.2")
	l.in(vm, fmt.Sprintf(`sysctl -qw net.ipv4.conf.all.route_localnet=1
ip route replace %[1]s/32 via %[2]s dev eth0 onlink table 77
ip rule add pref 1 lookup local; ip rule del pref 0; ip rule add pref 0 to %[1]s lookup 77`, loopback, gateway))
	if l.reaches(vm, loopback, port) {
		l.t.Errorf("a guest reaches the host's loopback")
	}
	if l.reaches(vm, netip.MustParseAddr("192.0.2.2"), port) {
		l.t.Error("a guest's packets are forwarded to the uplink")
	}
}

// spoof sends from addresses that are not the VM's; only what comes from its own
// may arrive.
func (l *lan) spoof(a, b banger.VM, gateway netip.Addr) {
	l.t.Helper()
	l.in(b.Name, `cat >/tmp/udp.pl <<'EOT'
use IO::Socket::INET;
use IO::Handle;
my $s = IO::Socket::INET->new(Proto => "udp", LocalPort => 9999) or die $!;
open my $f, ">", "/tmp/got"; $f->autoflush(1);
while ($s->recv(my $m, 100)) { print $f $m }
EOT
setsid perl /tmp/udp.pl >/dev/null 2>&1 </dev/null &
until [ -e /tmp/got ]; do sleep 0.1; done`)
	unused := a.Addr
	for unused == a.Addr || unused == b.Addr {
		unused = unused.Next()
	}
	// Its own comes last: when that has arrived, the others would have.
	for _, from := range []netip.Addr{unused, l.uplink, netip.MustParseAddr("8.8.8.8"), a.Addr} {
		set, unset := "", ""
		if from != a.Addr {
			set, unset = "ip addr add "+from.String()+"/32 dev eth0", "ip addr del "+from.String()+"/32 dev eth0"
		}
		l.in(a.Name, fmt.Sprintf(`%[3]s
perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(Proto=>"udp", LocalAddr=>"%[1]s", PeerAddr=>"%[2]s", PeerPort=>9999) or die "$@"; print $s "from %[1]s\n"'
%[4]s`, from, b.Addr, set, unset))
	}
	l.in(b.Name, "for i in $(seq 100); do grep -q . /tmp/got && exit; sleep 0.1; done; exit 1")
	if got := l.in(b.Name, "cat /tmp/got"); got != "from "+a.Addr.String() {
		l.t.Errorf("b got %q", got)
	}
}

// dial connects to a guest from the host and returns what it says.
func (l *lan) dial(to netip.Addr, port int) string {
	l.t.Helper()
	out, err := exec.Command("bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%d; timeout 20 cat <&3", to, port)).CombinedOutput()
	if err != nil {
		l.t.Errorf("dial %s: %v\n%s", to, err, out)
	}
	return string(out)
}

// What others reset is set again, and deaths of all kinds leave the network to
// whoever comes next.
func TestRoutedIsMended(t *testing.T) {
	l := newLAN(t)
	a, b := l.boot("a", "--network", "routed"), l.boot("b", "--network", "routed")
	l.serve("b", webPort)
	talk := func(after string) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for !l.reaches("a", b.Addr, webPort) {
			if time.Now().After(deadline) {
				t.Fatalf("after %s the VMs do not talk; the host has:\n%s", after, netns.World())
			}
		}
	}
	talk("their start")
	for _, harm := range []string{
		"sysctl -qw net.ipv4.ip_forward=1; sysctl -qw net.ipv4.ip_forward=0",
		"ip -o link | sed -n 's/.*\\(bt[0-9a-f]\\{4\\}[a-z0-9]*\\):.*/\\1/p' | while read -r l; do ip link set $l down; ip link set $l up; done",
		"nft flush ruleset",
		"ip -o link | sed -n 's/.*\\(bg[0-9a-f]\\{4\\}[a-z0-9]*\\):.*/\\1/p' | while read -r l; do ip link del $l; done",
	} {
		if out, err := exec.Command("sh", "-c", harm).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", harm, err, out)
		}
		talk(harm)
	}

	lock, held, err := l.Lock()
	if err != nil || !held {
		t.Fatal("no daemon", err)
	}
	kill(t, lock.PID)
	if v := l.show("a"); v.PID != a.PID {
		t.Errorf("the VMM's process is %d, was %d", v.PID, a.PID)
	}
	talk("bangerd's death")

	l.killRoot()
	talk("banger-root's death")
	l.ok("vm", "stop", "a")
	l.ok("vm", "start", "a")
	talk("a start after banger-root's death")
	l.killRoot()
	l.ok("vm", "delete", "--force", "a", "b")
	if out := l.ok("network", "show"); !strings.Contains(out, "Pending   none") {
		t.Errorf("left:\n%s", out)
	}
}

func (l *lan) killRoot() {
	l.t.Helper()
	c, err := client.Dial(l.t.Context(), os.Geteuid())
	must(l.t, err)
	must(l.t, syscall.Kill(l.rootPID(), syscall.SIGKILL))
	<-c.Done()
}

// rootPID is the banger-root of this namespace.
func (l *lan) rootPID() int {
	l.t.Helper()
	own, err := os.Readlink("/proc/thread-self/ns/net")
	must(l.t, err)
	cmdlines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(l.t, err)
	for _, path := range cmdlines {
		dir := filepath.Dir(path)
		ns, err := os.Readlink(dir + "/ns/net")
		if name, e := os.ReadFile(path); e != nil || err != nil || ns != own || strings.Trim(string(name), "\x00") != "banger-root" {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		must(l.t, err)
		return pid
	}
	l.t.Fatal("no banger-root runs")
	return 0
}
