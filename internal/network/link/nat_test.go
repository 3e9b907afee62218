package link_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/network"
	"banger/internal/network/link"
	"banger/test/netns"
)

var (
	wanAddr  = netip.MustParseAddr("198.51.100.2") // the host's, on its uplink
	router   = netip.MustParseAddr("198.51.100.1") // the host's default gateway
	far      = netip.MustParseAddr("203.0.113.9")  // somebody in the internet
	near     = netip.MustParseAddr("192.168.7.2")  // somebody in a network of the host's
	nearHost = netip.MustParseAddr("192.168.7.1")  // the host's, there
	metadata = netip.MustParseAddr("169.254.169.254")
)

func nat(t network.Tap) network.Tap { t.NAT = true; return t }

// wire lays a cable from a link of the host, with an address of a /24, to a
// machine that has eth0 with another of it, and more on its loopback. The machine
// sends what is not its own to the host.
func wire(t *testing.T, name string, host, machine netip.Addr, more ...netip.Addr) *guest {
	t.Helper()
	g := &guest{Thread: netns.New(t)}
	var ns int
	g.Do(func() { ns = must(unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)) })
	defer unix.Close(ns)
	a := netlink.NewLinkAttrs()
	a.Name = name
	must(0, netlink.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: name + "-peer", PeerNamespace: netlink.NsFd(ns)}))
	l := byName(t, name)
	must(0, netlink.AddrAdd(l, must(netlink.ParseAddr(host.String()+"/24"))))
	must(0, netlink.LinkSetUp(l))
	g.Do(func() {
		l := must(netlink.LinkByName(name + "-peer"))
		must(0, netlink.AddrAdd(l, must(netlink.ParseAddr(machine.String()+"/24"))))
		must(0, netlink.LinkSetUp(l))
		lo := must(netlink.LinkByName("lo"))
		for _, a := range more {
			must(0, netlink.AddrAdd(lo, must(netlink.ParseAddr(a.String()+"/32"))))
		}
		must(0, netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: host.AsSlice()}))
	})
	return g
}

// internet is all that lies behind the uplink.
func internet(t *testing.T) *guest {
	t.Helper()
	g := wire(t, "wan0", wanAddr, router, far, metadata, tap(200).Addr, netip.MustParseAddr("168.63.129.16"), netip.MustParseAddr("100.100.100.200"))
	must(0, netlink.RouteAdd(&netlink.Route{LinkIndex: byName(t, "wan0").Attrs().Index, Gw: router.AsSlice()}))
	return g
}

// greet answers each TCP connection to port 80 with the address that it is from.
func (g *guest) greet(t *testing.T) {
	t.Helper()
	var l net.Listener
	g.in(func() { l = must(net.Listen("tcp4", ":80")) })
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s", c.RemoteAddr().(*net.TCPAddr).IP)
			c.Close()
		}
	}()
}

// fetch is what a greeter answers.
func (g *guest) fetch(to netip.Addr) (said string) {
	g.in(func() {
		d := net.Dialer{Timeout: 20 * time.Second}
		c, err := d.Dial("tcp4", netip.AddrPortFrom(to, 80).String())
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

func closed(t *testing.T, before string) {
	t.Helper()
	apply(t, config())
	if after := world(t); after != before {
		t.Errorf("left:\n%s\nbefore:\n%s", after, before)
	}
}

// A guest with NAT fetches from the internet, as the host; the host forwards
// nothing else, and is in the end as it was.
func TestNAT(t *testing.T) {
	netns.Enter(t)
	world0 := internet(t)
	world0.greet(t)
	before := world(t)
	apply(t, config(nat(tap(1)), tap(2)))
	with, without := plug(t, tap(1)), plug(t, tap(2))
	if got := with.fetch(far); got != wanAddr.String() {
		t.Errorf("with NAT the internet sees %q", got)
	}
	inbox := world0.udp(t, 4242, netip.Addr{})
	try := func() (arrived string) {
		without.send(t, netip.Addr{}, far, "without ")
		with.send(t, netip.Addr{}, far, "with ")
		world0.through(t, &with, &without)
		for s := received(inbox); s != ""; s = received(inbox) {
			arrived += s
		}
		return arrived
	}
	if got := try(); got != "with " {
		t.Errorf("arrived %q", got)
	}
	inside := with.udp(t, 4242, netip.Addr{})
	world0.send(t, netip.Addr{}, tap(1).Addr, "in")
	world0.through(t, &with)
	if got := received(inside); got != "" {
		t.Errorf("from the internet into a VM: %q", got)
	}
	// What comes from a privileged port is the host's root's, or nobody's.
	for port, want := range map[int]bool{111: false, 700: false, 1023: false, 123: true, 500: true, 1024: true, 40000: true} {
		fd := with.udp(t, port, netip.Addr{})
		with.in(func() { must(0, unix.Sendto(fd, []byte("from"), 0, sockaddr(far, 4242))) })
		world0.through(t, &with)
		if got := received(inbox); (got == "from") != want {
			t.Errorf("by UDP from port %d: %q", port, got)
		}
	}
	for port, want := range map[int]bool{123: false, 700: false, 1024: true} {
		var fd int
		with.in(func() {
			fd = must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0))
			must(0, unix.Bind(fd, &unix.SockaddrInet4{Port: port}))
			_ = unix.Connect(fd, sockaddr(far, 80)) // EINPROGRESS
		})
		world0.through(t, &with)
		world0.through(t, &with) // and back
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if n, _ := unix.Poll(p, 0); (n > 0) != want {
			t.Errorf("by TCP from port %d: connected %v", port, n > 0)
		}
		unix.Close(fd)
	}
	// Both ways round while they run.
	apply(t, config(tap(1), nat(tap(2))))
	if got := try(); got != "without " {
		t.Errorf("the other way round arrived %q", got)
	}
	apply(t, config(tap(1), tap(2)))
	if got := try(); got != "" {
		t.Errorf("without any NAT arrived %q", got)
	}
	if w := world(t); strings.Contains(w, "altname") || !strings.Contains(w, "sysctl wan0 forwarding=0") {
		t.Errorf("without any NAT:\n%s", w)
	}
	closed(t, before)
}

// through waits until what was sent between these guests, the host and g has
// arrived.
func (g *guest) through(t *testing.T, guests ...*guest) {
	t.Helper()
	var host *guest
	for _, one := range guests {
		if !one.ping(gateway) || !host.ping(one.tap.Addr) {
			t.Error("no answer")
		}
	}
	if !host.ping(g.addr()) {
		t.Error("no answer from the other side")
	}
}

// addr is a machine's own address.
func (g *guest) addr() (a netip.Addr) {
	g.Do(func() {
		for _, l := range must(netlink.LinkList()) {
			if all := must(netlink.AddrList(l, unix.AF_INET)); strings.HasSuffix(l.Attrs().Name, "-peer") {
				a, _ = netip.AddrFromSlice(all[0].IP.To4())
			}
		}
	})
	return a
}

// What a guest with NAT sends elsewhere than to the world does not get there;
// each is shown to arrive once the rules are gone.
func TestWhereNATEnds(t *testing.T) {
	netns.Enter(t)
	world0, local := internet(t), wire(t, "lan0", nearHost, near)
	second := network.Config{Tag: "0001", Subnet: netip.MustParsePrefix("10.99.0.0/24"), Taps: []network.Tap{{VM: tap(9).VM, Addr: netip.MustParseAddr("10.99.0.9"), NAT: true}}}
	c := config(nat(tap(1)), nat(isolated(tap(2))))
	apply(t, c)
	apply(t, second)
	g, alone := plug(t, tap(1)), plug(t, tap(2))
	other := plugInto(t, second.Tag, network.SubnetOf(second.Subnet).Gateway, second.Taps[0])
	var host *guest
	boxes := map[string]int{"internet": world0.udp(t, 4242, netip.Addr{}), "lan": local.udp(t, 4242, netip.Addr{}), "host": host.udp(t, 4242, netip.Addr{}), "other": other.udp(t, 4242, netip.Addr{}), "alone": alone.udp(t, 4242, netip.Addr{})}
	sends := []struct {
		what       string
		by         *guest
		source, to netip.Addr
		at         string
	}{
		{"the LAN", &g, netip.Addr{}, near, "lan"},
		{"the host, on the LAN", &g, netip.Addr{}, nearHost, "host"},
		{"the host, on its uplink", &g, netip.Addr{}, wanAddr, "host"},
		{"metadata", &g, netip.Addr{}, metadata, "internet"},
		{"Azure's metadata", &g, netip.Addr{}, netip.MustParseAddr("168.63.129.16"), "internet"},
		{"Alibaba's metadata", &g, netip.Addr{}, netip.MustParseAddr("100.100.100.200"), "internet"},
		{"nobody in the subnet", &g, netip.Addr{}, tap(200).Addr, "internet"},
		{"another installation", &g, netip.Addr{}, second.Taps[0].Addr, "other"},
		{"an isolated VM", &g, netip.Addr{}, tap(2).Addr, "alone"},
		{"as another VM", &g, tap(2).Addr, far, "internet"},
		{"as nobody", &g, tap(77).Addr, far, "internet"},
		{"as the host", &g, wanAddr, far, "internet"},
		{"as loopback", &g, netip.MustParseAddr("127.0.0.1"), far, "internet"},
		{"from the internet into a VM", world0, netip.Addr{}, tap(2).Addr, "alone"},
		{"from the LAN into a VM", local, netip.Addr{}, tap(2).Addr, "alone"},
		{"from the internet into the LAN", world0, netip.Addr{}, near, "lan"},
		{"from the LAN to the internet", local, netip.Addr{}, far, "internet"},
	}
	try := func() (arrived []string) {
		for _, s := range sends {
			s.by.send(t, s.source, s.to, s.what)
			world0.through(t, &g, &alone)
			if !host.ping(other.tap.Addr) {
				t.Error("no answer from the other installation")
			}
			local.through(t)
			for at, box := range boxes {
				for got := received(box); got != ""; got = received(box) {
					if got != s.what || at != s.at {
						t.Errorf("%q came to the %s", got, at)
					}
					arrived = append(arrived, got)
				}
			}
		}
		return arrived
	}
	g.Do(func() { // a guest that wants to badly enough sends as loopback, too
		must(0, os.WriteFile("/proc/sys/net/ipv4/conf/all/route_localnet", []byte("1"), 0))
	})
	if got := try(); len(got) > 0 {
		t.Errorf("arrived: %q", got)
	}
	must(0, os.WriteFile("/proc/sys/net/ipv4/conf/"+tapName(1)+"/rp_filter", []byte("0"), 0))
	if got := try(); len(got) > 0 {
		t.Errorf("without rp_filter arrived: %q", got)
	}
	// What no rule but the routing stops is not to arrive even now.
	flushRules(t)
	for _, l := range []string{"lan0", "wan0"} {
		must(0, os.WriteFile("/proc/sys/net/ipv4/conf/"+l+"/forwarding", []byte("1"), 0))
	}
	for _, l := range []string{tapName(1), "all"} {
		must(0, os.WriteFile("/proc/sys/net/ipv4/conf/"+l+"/rp_filter", []byte("0"), 0))
	}
	got := try()
	for _, s := range sends {
		never := s.what == "as the host" || s.what == "as loopback" // the kernel takes these for lies by itself
		if !never && !slices.Contains(got, s.what) {
			t.Errorf("without rules %q does not arrive: the test shows nothing", s.what)
		}
	}
}

// A connection that is up passes as long as its guest has NAT: without it nothing of it
// comes through, in neither direction, and all does once it is back.
func TestNATOfWhatIsUp(t *testing.T) {
	netns.Enter(t)
	world0 := internet(t)
	apply(t, config(nat(tap(1)), nat(tap(2))))
	g := plug(t, tap(1))
	near, distant := g.udp(t, 5000, netip.Addr{}), world0.udp(t, 4242, far)
	say := func() (arrived string) {
		g.in(func() { must(0, unix.Sendto(near, []byte("out "), 0, sockaddr(far, 4242))) })
		world0.through(t, &g)
		world0.in(func() { must(0, unix.Sendto(distant, []byte("back "), 0, sockaddr(wanAddr, 5000))) })
		world0.through(t, &g)
		return received(distant) + received(near)
	}
	for range 2 { // it is one when both have spoken
		if got := say(); got != "out back " {
			t.Errorf("arrived %q", got)
		}
	}
	apply(t, config(tap(1), nat(tap(2))))
	if got := say(); got != "" {
		t.Errorf("without NAT arrived %q", got)
	}
	apply(t, config(nat(tap(1)), tap(2)))
	if got := say(); got != "out back " {
		t.Errorf("with NAT again arrived %q", got)
	}
	apply(t, config(isolated(nat(tap(1))), tap(2)))
	if got := say(); got != "out back " {
		t.Errorf("isolated, which is not from the world, arrived %q", got)
	}
}

// Who is behind the uplink does not get into a connection between two VMs by
// sending as one of them: the host's own rp_filter may be off.
func TestNoVMBehindTheUplink(t *testing.T) {
	netns.Enter(t)
	world0 := internet(t)
	c := config(nat(tap(1)), nat(tap(2)))
	apply(t, c)
	a, b := plug(t, tap(1)), plug(t, tap(2))
	out, in, from := a.udp(t, 5000, netip.Addr{}), b.udp(t, 4242, netip.Addr{}), world0.udp(t, 5000, tap(1).Addr)
	say := func(g *guest, fd int, text string, to netip.Addr, port int) string {
		g.in(func() { must(0, unix.Sendto(fd, []byte(text), 0, sockaddr(to, port))) })
		world0.through(t, &a, &b)
		return received(out) + received(in)
	}
	for range 2 { // a connection is one when both have spoken
		if got := say(&a, out, "question", tap(2).Addr, 4242); got != "question" {
			t.Errorf("arrived %q", got)
		}
		if got := say(&b, in, "answer", tap(1).Addr, 5000); got != "answer" {
			t.Errorf("arrived %q", got)
		}
	}
	if got := say(world0, from, "made up", tap(2).Addr, 4242); got != "" {
		t.Errorf("from the internet, as the first, arrived %q", got)
	}
	flushRules(t)
	must(0, os.WriteFile("/proc/sys/net/ipv4/conf/wan0/forwarding", []byte("1"), 0))
	if got := say(world0, from, "made up", tap(2).Addr, 4242); got != "made up" {
		t.Errorf("without rules arrived %q: the test shows nothing", got)
	}
}

// Uplinks come, go, change and are renamed; each that banger opened is closed
// when it is none any more, and none that others opened.
func TestUplinks(t *testing.T) {
	netns.Enter(t)
	ifb := func(name, address string) {
		a := netlink.NewLinkAttrs()
		a.Name = name
		must(0, netlink.LinkAdd(&netlink.Ifb{LinkAttrs: a}))
		must(0, netlink.AddrAdd(byName(t, name), must(netlink.ParseAddr(address+"/24"))))
		must(0, netlink.LinkSetUp(byName(t, name)))
	}
	ifb("up0", "192.0.2.1")
	ifb("up1", "198.51.100.1")
	ifb("up2", "203.0.113.1")
	sysctl := func(key, value string) {
		must(0, os.WriteFile("/proc/sys/net/ipv4/"+key, []byte(value), 0))
	}
	via := func(name, dst, gw string, table int) netlink.Route {
		return netlink.Route{LinkIndex: byName(t, name).Attrs().Index, Dst: must(netlink.ParseIPNet(dst)), Gw: net.ParseIP(gw), Table: table, Protocol: unix.RTPROT_STATIC}
	}
	c := config(nat(tap(1)))
	var opened []string
	check := func(what string, forward ...string) {
		t.Helper()
		apply(t, c)
		if again := apply(t, c); len(again) > 0 {
			t.Errorf("%s: again changed %v", what, again)
		}
		opened = nil
		for _, l := range must(netlink.LinkList()) {
			n := l.Attrs().Name
			b := must(os.ReadFile("/proc/sys/net/ipv4/conf/" + n + "/forwarding"))
			marked := slices.Contains(l.Attrs().AltNames, fmt.Sprintf("banger_65534_beef_%d", l.Attrs().Index))
			if b[0] == '1' && (strings.HasPrefix(n, "up") || n == "moved") {
				opened = append(opened, n)
			}
			if marked {
				opened = append(opened, n+"!")
			}
		}
		slices.Sort(opened)
		if !slices.Equal(opened, forward) {
			t.Errorf("%s: forwarding is on and ours at %v, want %v", what, opened, forward)
		}
	}
	before := world(t)
	check("no uplink")
	r := via("up0", "0.0.0.0/0", "192.0.2.9", 0)
	must(0, netlink.RouteAdd(&r))
	check("one", "up0", "up0!")
	half := via("up1", "128.0.0.0/1", "198.51.100.9", 0)
	must(0, netlink.RouteAdd(&half))
	other := via("up2", "0.0.0.0/0", "203.0.113.9", 77)
	must(0, netlink.RouteAdd(&other))
	check("three", "up0", "up0!", "up1", "up1!", "up2", "up2!")
	must(0, netlink.RouteDel(&other))
	check("two", "up0", "up0!", "up1", "up1!")
	must(0, netlink.RouteDel(&r))
	check("another", "up1", "up1!")
	must(0, netlink.LinkSetDown(byName(t, "up1")))
	must(0, netlink.LinkSetName(byName(t, "up1"), "moved"))
	must(0, netlink.LinkSetUp(byName(t, "moved")))
	half = via("moved", "128.0.0.0/1", "198.51.100.9", 0)
	must(0, netlink.RouteAdd(&half))
	check("renamed", "moved", "moved!")
	flushRules(t)
	check("flushed", "moved", "moved!")

	// A second installation uses the same uplink, and goes again.
	second := c
	second.Tag, second.Subnet, second.Taps = "0001", netip.MustParsePrefix("10.99.0.0/24"), []network.Tap{{VM: tap(1).VM, Addr: netip.MustParseAddr("10.99.0.9"), NAT: true}}
	apply(t, second)
	second.Taps = nil
	apply(t, second)
	check("another installation went", "moved", "moved!")
	second.Taps = []network.Tap{{VM: tap(1).VM, Addr: netip.MustParseAddr("10.99.0.9"), NAT: true}}
	apply(t, second)
	c = config(tap(1))
	check("the first gave it up", "moved")
	second.Taps = nil
	apply(t, second)
	check("the last one, too")
	c = config(nat(tap(1)))
	check("the first is back", "moved", "moved!")

	sysctl("ip_forward", "1") // as Docker does
	check("the host forwards", "moved", "up0", "up2")
	sysctl("ip_forward", "0")
	check("the host no longer forwards", "moved", "moved!")
	must(0, netlink.RouteDel(&half))
	must(0, netlink.LinkSetDown(byName(t, "moved")))
	must(0, netlink.LinkSetName(byName(t, "moved"), "up1"))
	must(0, netlink.LinkSetUp(byName(t, "up1")))

	// What somebody else has opened stays open.
	must(0, netlink.RouteAdd(&r))
	sysctl("conf/up0/forwarding", "1")
	check("opened by others", "up0")
	must(0, netlink.RouteDel(&r))
	check("no uplink again", "up0")
	sysctl("conf/up0/forwarding", "0")
	c = config()
	check("closed")
	if after := world(t); after != before {
		t.Errorf("left:\n%s\nbefore:\n%s", after, before)
	}
}

// Set twice changes nothing, and moves no rule; a VM costs elements of sets, and
// no rule.
func TestNATIsSets(t *testing.T) {
	netns.Enter(t)
	internet(t)
	before := world(t)
	count := func(taps int) int {
		var all []network.Tap
		for n := range taps {
			all = append(all, nat(tap(n)))
		}
		apply(t, config(all...))
		was := rules(t, true)
		if c := apply(t, config(all...)); len(c) > 0 || rules(t, true) != was {
			t.Errorf("%d taps: changed %v\n%s\n%s", taps, c, was, rules(t, true))
		}
		return strings.Count(was, "  rule ")
	}
	if few, many := count(3), count(130); few != many {
		t.Errorf("%d rules for 3 taps, %d for 130", few, many)
	}
	closed(t, before)
}

// What belongs to no connection the kernel translates not either: it does not go out with
// the guest's own address.
func TestNATOfNoConnection(t *testing.T) {
	netns.Enter(t)
	outside := internet(t)
	apply(t, config(nat(tap(1))))
	g := plug(t, tap(1))
	seen := outside.sniff(t)
	reset := make([]byte, 20) // of TCP
	binary.BigEndian.PutUint16(reset, 4242)
	binary.BigEndian.PutUint16(reset[2:], 80)
	reset[12], reset[13] = 5<<4, 4
	pseudo := slices.Concat(tap(1).Addr.AsSlice(), far.AsSlice(), []byte{0, unix.IPPROTO_TCP, 0, byte(len(reset))}, reset)
	binary.BigEndian.PutUint16(reset[16:], sum(pseudo))
	g.in(func() {
		fd := must(unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP))
		defer unix.Close(fd)
		must(0, unix.Sendto(fd, reset, 0, sockaddr(far, 0)))
	})
	if !g.ping(far) {
		t.Error("it does not reach the world")
	}
	frames := 0
	for f := received(seen); f != ""; f = received(seen) {
		if frames++; strings.Contains(f, string(tap(1).Addr.AsSlice())) {
			t.Errorf("a frame with its address: % x", f)
		}
	}
	if frames == 0 {
		t.Error("nothing seen: the test shows nothing")
	}
}

func BenchmarkSet(b *testing.B) {
	for _, n := range []int{10, 50, 200} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkSet(b, n) })
	}
}

// benchmarkSet sets one network over and over, then gives one VM NAT and takes
// it away again.
func benchmarkSet(b *testing.B, n int) {
	th := netns.New(b)
	th.Do(func() {
		var all []network.Tap
		for i := range n {
			all = append(all, nat(tap(i)))
		}
		r := link.New(uid)
		must(r.Apply(config(all...)))
		before := cpu()
		for b.Loop() {
			must(r.Apply(config(all...)))
		}
		b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/op")
		changed := slices.Clone(all)
		begun := time.Now()
		const times = 20
		for i := range times {
			changed[0].NAT = i%2 == 1
			must(r.Apply(config(changed...)))
		}
		b.ReportMetric(float64(time.Since(begun).Microseconds())/times, "µs/change")
		must(r.Apply(config()))
	})
}

// cpu is what this process has used of CPUs: a benchmark's time is that of all that
// runs on the machine.
func cpu() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
