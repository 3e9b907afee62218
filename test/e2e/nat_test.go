package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/test/netns"
)

var (
	wanAddr = netip.MustParseAddr("198.51.100.2") // the host's, on its way out
	far     = netip.MustParseAddr("203.0.113.9")  // somebody in the internet
)

const wanMTU = 1400

// internet is a machine of the test's own behind a cable "wan0" of the host, by
// which the host's default route leads. Whoever connects to it is told which
// address it comes from. It has a resolver, too, which is the host's.
func internet(t *testing.T) (th *netns.Thread) {
	t.Helper()
	th = netns.New(t)
	var ns int
	th.Do(func() { ns, _ = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	defer unix.Close(ns)
	a := netlink.NewLinkAttrs()
	a.Name, a.MTU = "wan0", wanMTU
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "peer0", PeerMTU: wanMTU, PeerNamespace: netlink.NsFd(ns)}))
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/wan0/disable_ipv6", []byte("1"), 0)) // no address of its own comes late
	var err error
	up := func(name string, addrs ...string) {
		l, e := netlink.LinkByName(name)
		if e != nil {
			err = e
			return
		}
		for _, a := range addrs {
			p, _ := netlink.ParseIPNet(a)
			if e := netlink.AddrAdd(l, &netlink.Addr{IPNet: p}); e != nil {
				err = e
			}
		}
		if e := netlink.LinkSetUp(l); e != nil {
			err = e
		}
	}
	var l net.Listener
	var pc net.PacketConn
	th.Do(func() {
		up("peer0", "198.51.100.1/24")
		up("lo", far.String()+"/32")
		if err == nil {
			l, err = net.Listen("tcp4", far.String()+":80")
		}
		if err == nil {
			pc, err = net.ListenPacket("udp4", far.String()+":53")
		}
	})
	up("wan0", wanAddr.String()+"/24")
	must(t, err)
	t.Cleanup(func() { l.Close(); pc.Close() })
	go (&dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(resolve)}).ActivateAndServe()
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	must(t, os.WriteFile(conf, []byte("nameserver "+far.String()+"\n"), 0o644))
	must(t, unix.Mount(conf, "/etc/resolv.conf", "", unix.MS_BIND, "")) // in the test's own namespace
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "you are %s\n", c.RemoteAddr().(*net.TCPAddr).IP)
			c.Close()
		}
	}()
	wayOut(t, netlink.RouteAdd)
	return th
}

// resolve knows www.example.com.
func resolve(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	switch question := q.Question[0]; {
	case !strings.EqualFold(question.Name, "www.example.com."):
		m.Rcode = dns.RcodeNameError
	case question.Qtype == dns.TypeA:
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: far.AsSlice()}}
	}
	_ = w.WriteMsg(m)
}

// wayOut adds or deletes the host's default route.
func wayOut(t *testing.T, do func(*netlink.Route) error) {
	t.Helper()
	l, err := netlink.LinkByName("wan0")
	must(t, err)
	must(t, do(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.IPv4(198, 51, 100, 1)}))
}

// fetch is what the internet says to a VM.
func (l *lan) fetch(vm string) string {
	l.t.Helper()
	return l.in(vm, fmt.Sprintf("timeout 30 bash -c 'exec 3<>/dev/tcp/%s/80; cat <&3'", far))
}

// A real guest reaches the internet as the host, by default; not with --nat=false;
// and follows what is set and what comes of the uplink while it runs.
func TestNAT(t *testing.T) {
	l := newLAN(t, func() { internet(t) })
	l.Set("BANGER_NETWORK", "auto") // of root, with an uplink, it is routed
	l.boot("a")
	l.boot("b", "--network", "routed", "--nat=false")
	if got := l.fetch("a"); got != "you are "+wanAddr.String() {
		t.Errorf("the internet says %q", got)
	}
	if got := l.in("a", "cat /sys/class/net/eth0/mtu"); got != fmt.Sprint(wanMTU) {
		t.Errorf("the guest's MTU is %s", got)
	}
	if l.reaches("b", far, 80) {
		t.Error("a VM without NAT reaches the internet")
	}
	l.names()
	for vm, want := range map[string]string{"a": "routed, NAT wanted", "b": "routed, no NAT"} {
		if out := l.ok("vm", "show", vm); !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}

	l.ok("vm", "set", "a", "--nat=false")
	l.ok("vm", "set", "b", "--nat")
	if l.reaches("a", far, 80) {
		t.Error("it still reaches the internet after --nat=false")
	}
	if got := l.fetch("b"); got != "you are "+wanAddr.String() {
		t.Errorf("after --nat the internet says %q", got)
	}

	wayOut(t, netlink.RouteDel)
	for _, args := range [][]string{{"vm", "set", "a", "--nat"}, append([]string{"vm", "create", "--name", "c", "--network", "routed", "--nat"}, cheap()...)} {
		if r := l.run(args...); r.code != 5 || !strings.Contains(r.err, "no default route") {
			t.Errorf("%q without an uplink: %+v", args, r)
		}
	}
	if r := l.run("vm", "create", "--name", "d", "--no-start"); r.code != 0 || !strings.Contains(r.err, "network mode user: no NAT: the host has no default route") {
		t.Errorf("auto without an uplink: %+v", r)
	}
	l.ok("vm", "delete", "--force", "d")
	if v := l.show("a"); v.NAT != "off" {
		t.Errorf("a change that failed is recorded: %s", v.NAT)
	}
	l.ok("vm", "stop", "a")
	l.ok("vm", "set", "a", "--nat")
	if r := l.run("vm", "start", "a"); r.code != 5 || !strings.Contains(r.err, "no default route") {
		t.Errorf("start without an uplink: %+v", r)
	}
	t.Cleanup(func() { l.run("vm", "delete", "--force", "c") })
	if r := l.run(append([]string{"vm", "create", "--name", "c", "--network", "routed"}, cheap()...)...); r.code != 0 || !strings.Contains(r.err, "no default route") {
		t.Errorf("by default without an uplink: %+v", r)
	}
	if l.reaches("c", far, 80) {
		t.Error("without a route there is a way")
	}

	// Those that run follow by themselves.
	wayOut(t, netlink.RouteAdd)
	deadline := time.Now().Add(time.Minute)
	for _, vm := range []string{"b", "c"} {
		for !l.reaches(vm, far, 80) {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not follow the uplink; the host has:\n%s", vm, netns.World())
			}
		}
	}
}

// names fails unless guests resolve the names of VMs, and those of the world if they
// reach it; by the daemon that comes next as well.
func (l *lan) names() {
	l.t.Helper()
	for range 2 {
		for _, c := range []struct{ vm, name, want string }{
			{"a", "b.vm", l.show("b").Addr.String()},
			{"b", "a.vm", l.show("a").Addr.String()},
			{"a", "www.example.com", far.String()},
			{"b", "www.example.com", ""},
			{"a", "nosuch.vm", ""},
			{"a", "nosuch.example.com", ""},
		} {
			got := l.in(c.vm, "getent ahostsv4 "+c.name+" | cut -d' ' -f1 | sort -u")
			if got != c.want {
				l.t.Errorf("in %s %s is %q, want %q", c.vm, c.name, got, c.want)
			}
		}
		l.ok("daemon", "restart")
		l.ok("vm", "wait", "a")
		l.ok("vm", "wait", "b")
	}
}
