package link_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
	"banger/internal/network/link"
	"banger/test/netns"
)

// hold binds a socket of the host's, listening if it is TCP.
func hold(t *testing.T, at string, proto banger.Proto) *os.File {
	t.Helper()
	a := netip.MustParseAddrPort(at)
	kind := unix.SOCK_STREAM
	if proto == banger.UDP {
		kind = unix.SOCK_DGRAM
	}
	fd := must(unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0))
	f := os.NewFile(uintptr(fd), at)
	t.Cleanup(func() { f.Close() })
	must(0, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	must(0, unix.Bind(fd, sockaddr(a.Addr(), int(a.Port()))))
	if proto == banger.TCP {
		must(0, unix.Listen(fd, 10))
	}
	return f
}

// claimed is a port of a VM's that is led to guest, with the socket as the proof.
func claimed(t *testing.T, tp network.Tap, guest uint16, socket *os.File) network.Port {
	t.Helper()
	p := network.Port{VM: tp.VM, Guest: guest}
	must(0, link.New(uid).Claim(&p, socket))
	return p
}

// fetchFrom is what a greeter answers at a port, "" if nobody does.
func (g *guest) fetchFrom(to string) (said string) {
	g.in(func() {
		d := net.Dialer{Timeout: 3 * time.Second, KeepAlive: -1}
		c, err := d.DialContext(context.Background(), "tcp4", to)
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(3 * time.Second))
		b, _ := io.ReadAll(c)
		said = string(b)
	})
	return said
}

// connects reports whether a guest gets through by TCP: what it sends has arrived, or
// not, before its ping of the gateway has.
func (g *guest) connects(to netip.Addr, port int) bool {
	var fd int
	g.in(func() {
		fd = must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0))
		_ = unix.Connect(fd, sockaddr(to, port)) // EINPROGRESS
	})
	defer unix.Close(fd)
	for range 2 { // there and back
		g.ping(gateway)
	}
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, _ := unix.Poll(p, 0)
	return n > 0
}

// asks sends one datagram and returns the answer, "" for none.
func (g *guest) asks(t *testing.T, to string) (said string) {
	g.in(func() {
		c := must(net.Dial("udp4", to))
		defer c.Close()
		_, _ = c.Write([]byte("who?"))
		_ = c.SetDeadline(time.Now().Add(3 * time.Second))
		b := make([]byte, 100)
		n, _ := c.Read(b)
		said = string(b[:n])
	})
	return said
}

// echoUDP answers each datagram to a port with the address that it is from.
func (g *guest) echoUDP(t *testing.T, port int) (fd int) {
	t.Helper()
	var c net.PacketConn
	g.in(func() { c = must(net.ListenPacket("udp4", fmt.Sprintf(":%d", port))) })
	must(0, must(c.(*net.UDPConn).SyscallConn()).Control(func(n uintptr) { fd = int(n) }))
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo([]byte(from.(*net.UDPAddr).IP.String()), from)
		}
	}()
	return fd
}

// Who comes from outside to a port of the host's that is led to a VM is there, with his
// own address, by TCP and by UDP, also where the VM is isolated and has no NAT; the VM
// is not let out by it. It ends with the socket, and comes back with the next.
func TestPublished(t *testing.T) {
	netns.Enter(t)
	outside := internet(t)
	before := world(t)
	web, alone := nat(tap(1)), isolated(tap(2))
	c := config(web, alone)
	tcp, udp := hold(t, "0.0.0.0:8080", banger.TCP), hold(t, wanAddr.String()+":5353", banger.UDP)
	c.Ports = []network.Port{claimed(t, web, 80, tcp), claimed(t, alone, 53, udp)}
	if changes := apply(t, c); len(changes) == 0 {
		t.Error("nothing changed")
	}
	handles := rules(t, true)
	if changes := apply(t, c); len(changes) != 0 || rules(t, true) != handles {
		t.Errorf("the second time changed %v", changes)
	}
	g, other := plug(t, web), plug(t, alone)
	g.greet(t)
	port53 := other.echoUDP(t, 53)
	at, by := wanAddr.String()+":8080", wanAddr.String()+":5353"
	if got := outside.fetchFrom(at); got != router.String() {
		t.Errorf("by TCP the guest sees %q", got)
	}
	var steady net.Conn // a client that always has the same port
	outside.in(func() { steady = must(net.Dial("udp4", by)) })
	defer steady.Close()
	ask := func() string {
		b := make([]byte, 100)
		_, _ = steady.Write([]byte("who?"))
		_ = steady.SetDeadline(time.Now().Add(3 * time.Second))
		n, err := steady.Read(b)
		if errors.Is(err, unix.ECONNREFUSED) {
			return "refused"
		}
		return string(b[:n])
	}
	if got := ask(); got != router.String() {
		t.Errorf("by UDP the guest sees %q", got)
	}
	// Not by other ports, and from no guest: not even its own.
	for _, port := range []string{":80", ":8081", ":53"} {
		if got := outside.fetchFrom(wanAddr.String() + port); got != "" {
			t.Errorf("port %s answers %q", port, got)
		}
	}
	for n, from := range []*guest{&g, &other} {
		for _, to := range []netip.Addr{wanAddr, gateway} {
			if from.connects(to, 8080) {
				t.Errorf("guest %d connects to %s", n+1, to)
			}
		}
	}
	inbox := outside.udp(t, 4242, netip.Addr{})
	// A published port lets nothing out, whatever it is sent from: not by a port of the
	// host's that somebody else leads out.
	n := must(nftables.New())
	docker := n.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "docker"})
	n.AddRule(&nftables.Rule{Table: docker, Chain: n.AddChain(&nftables.Chain{Table: docker, Name: "dnat", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest}), Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{9999 >> 8, 9999 & 255}},
		&expr.Immediate{Register: 1, Data: far.AsSlice()}, &expr.Immediate{Register: 2, Data: []byte{4242 >> 8, 4242 & 255}},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2, Specified: true}}})
	must(0, n.Flush())
	other.in(func() {
		must(0, unix.Sendto(port53, []byte("out"), 0, sockaddr(far, 4242)))
		must(0, unix.Sendto(port53, []byte("by another's port"), 0, sockaddr(wanAddr, 9999)))
	})
	outside.through(t, &g, &other)
	if got := received(inbox); got != "" {
		t.Errorf("from a guest without NAT: %q", got)
	}
	n.DelTable(docker)
	must(0, n.Flush())
	// The other way round, at once, with another port in the place of the first.
	c.Ports = []network.Port{claimed(t, alone, 80, tcp), claimed(t, web, 53, udp)}
	apply(t, c)
	other.greet(t)
	if got := outside.fetchFrom(at); got != router.String() {
		t.Errorf("led elsewhere: %q", got)
	}
	if got := ask(); got != "refused" { // nobody is there yet, which it is told
		t.Errorf("by UDP led elsewhere: %q", got)
	}
	g.echoUDP(t, 53)
	if got := ask(); got != router.String() {
		t.Errorf("by UDP led elsewhere: %q", got)
	}
	// Without its socket nothing is led.
	tcp.Close()
	udp.Close()
	if got := outside.fetchFrom(at) + outside.asks(t, by); got != "" {
		t.Errorf("without the sockets: %q", got)
	}
	// Somebody else has the port now: what comes is his.
	var host *guest
	theirs := must(net.Listen("tcp4", "0.0.0.0:8080"))
	defer theirs.Close()
	go func() {
		for {
			c, err := theirs.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("theirs"))
			c.Close()
		}
	}()
	if got := outside.fetchFrom(at); got != "theirs" {
		t.Errorf("somebody else's port: %q", got)
	}
	theirs.Close()
	if got := host.fetchFrom(at); got != "" {
		t.Errorf("nobody listens, and %q", got)
	}
	c.Ports[0] = claimed(t, web, 80, hold(t, "0.0.0.0:8080", banger.TCP))
	apply(t, c)
	if got := outside.fetchFrom(at); got != router.String() {
		t.Errorf("with the next socket: %q", got)
	}
	c.Ports = nil
	apply(t, c)
	if w := world(t); strings.Contains(w, "publish") {
		t.Errorf("without ports:\n%s", w)
	}
	closed(t, before)
}

// Which port may be led is the kernel's word: a socket of another kind is refused, and
// not marked.
func TestClaim(t *testing.T) {
	netns.Enter(t)
	internet(t)
	socket := func(domain, kind, proto int) *os.File {
		f := os.NewFile(uintptr(must(unix.Socket(domain, kind|unix.SOCK_CLOEXEC, proto))), "socket")
		t.Cleanup(func() { f.Close() })
		return f
	}
	bind := func(f *os.File, sa unix.Sockaddr) *os.File { must(0, unix.Bind(int(f.Fd()), sa)); return f }
	any4 := sockaddr(netip.Addr{}, 7000)
	connected := bind(socket(unix.AF_INET, unix.SOCK_DGRAM, 0), sockaddr(wanAddr, 7001))
	must(0, unix.Connect(int(connected.Fd()), sockaddr(router, 9)))
	six := bind(socket(unix.AF_INET6, unix.SOCK_STREAM, 0), &unix.SockaddrInet6{Port: 7002})
	must(0, unix.Listen(int(six.Fd()), 1))
	var elsewhere *os.File
	netns.New(t).Do(func() { elsewhere = bind(socket(unix.AF_INET, unix.SOCK_DGRAM, 0), any4) })
	null := must(os.Open(os.DevNull))
	defer null.Close()
	for name, c := range map[string]struct {
		socket *os.File
		want   string
	}{
		"no socket":              {null, "non-socket"},
		"another family":         {socket(unix.AF_UNIX, unix.SOCK_STREAM, 0), "not of IPv4"},
		"IPv6":                   {six, "not of IPv4"},
		"raw":                    {socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP), "neither TCP nor UDP"},
		"not bound":              {socket(unix.AF_INET, unix.SOCK_DGRAM, 0), "not bound"},
		"bound to all of it":     {bind(socket(unix.AF_INET, unix.SOCK_STREAM, 0), any4), "does not listen"},
		"connected":              {connected, "connected"},
		"of the loopback":        {bind(socket(unix.AF_INET, unix.SOCK_DGRAM, 0), sockaddr(netip.MustParseAddr("127.0.0.1"), 7003)), "not reached from outside"},
		"of another namespace":   {elsewhere, "another network namespace"},
		"of another's multicast": {bind(socket(unix.AF_INET, unix.SOCK_DGRAM, 0), sockaddr(netip.MustParseAddr("224.0.0.251"), 7004)), "not reached from outside"},
	} {
		p := network.Port{VM: tap(1).VM, Guest: 80}
		err := link.New(uid).Claim(&p, c.socket)
		if banger.CodeOf(err) != banger.Invalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if mark, err := unix.GetsockoptInt(int(c.socket.Fd()), unix.SOL_SOCKET, unix.SO_MARK); err == nil && mark != 0 {
			t.Errorf("%s: marked %#x", name, mark)
		}
	}
	f := hold(t, "0.0.0.0:7005", banger.TCP)
	p := claimed(t, tap(1), 80, f)
	if want := netip.MustParseAddrPort("0.0.0.0:7005"); p.Host != want || p.Proto != banger.TCP {
		t.Errorf("%s %s", p.Host, p.Proto)
	}
	raw := must(f.SyscallConn())
	must(0, raw.Control(func(fd uintptr) {
		if flags := must(unix.FcntlInt(fd, unix.F_GETFL, 0)); flags&unix.O_NONBLOCK == 0 {
			t.Error("the socket blocks now")
		}
	}))
}

// What a user may still have is told from his sockets, not from others' at the port.
func TestBound(t *testing.T) {
	netns.Enter(t)
	internet(t)
	a, b := hold(t, "0.0.0.0:5353", banger.UDP), hold(t, wanAddr.String()+":5354", banger.UDP)
	ports := []network.Port{claimed(t, tap(1), 53, a), claimed(t, tap(1), 54, b), claimed(t, tap(1), 80, hold(t, "0.0.0.0:5353", banger.TCP))}
	for _, c := range []struct {
		what  string
		uid   uint32
		close *os.File
		want  int
	}{{"all there", uint32(os.Getuid()), nil, 3}, {"another user's", uid, nil, 1}, {"one closed", uint32(os.Getuid()), a, 2}, {"both", uint32(os.Getuid()), b, 1}} {
		if c.close != nil {
			c.close.Close()
		}
		if still, err := link.New(c.uid).Bound(ports); err != nil || len(still) != c.want || still[len(still)-1] != ports[2] {
			t.Errorf("%s: %v, %v", c.what, still, err)
		}
	}
}

// Directories give out uids up to 2^32: none of them has the mark of all sockets.
func TestMark(t *testing.T) {
	has := map[uint32]uint32{}
	for _, uid := range []uint32{0, 1, 1000, 65534, 'b' << 24, 'b'<<24 + 1, 'b'<<24 - 1, 1<<31 - 1, 1 << 31, 1<<32 - 2} {
		m := link.Mark(uid)
		if other, twice := has[m]; m == 0 || twice {
			t.Errorf("uid %d has the mark %#x, as %d", uid, m, other)
		}
		has[m] = uid
	}
}

// Where others' rules judge what comes in, no port is led past them.
func TestPublishedAndFirewall(t *testing.T) {
	for name, c := range map[string]struct {
		family nftables.TableFamily
		policy nftables.ChainPolicy
		hook   *nftables.ChainHook
		rule   []expr.Any
		led    bool
	}{
		"drops by policy":                  {nftables.TableFamilyIPv4, nftables.ChainPolicyDrop, nftables.ChainHookInput, nil, false},
		"of both families":                 {nftables.TableFamilyINet, nftables.ChainPolicyDrop, nftables.ChainHookInput, nil, false},
		"drops":                            {nftables.TableFamilyINet, nftables.ChainPolicyAccept, nftables.ChainHookInput, []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}, false},
		"rejects":                          {nftables.TableFamilyINet, nftables.ChainPolicyAccept, nftables.ChainHookInput, []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: 1}}, false},
		"drops in a chain":                 {nftables.TableFamilyIPv4, nftables.ChainPolicyAccept, nftables.ChainHookInput, []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: "dropping"}}, false},
		"drops before it is led elsewhere": {nftables.TableFamilyIPv4, nftables.ChainPolicyDrop, nftables.ChainHookPrerouting, nil, false},
		"accepts in a chain":               {nftables.TableFamilyIPv4, nftables.ChainPolicyAccept, nftables.ChainHookInput, []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: "accepting"}}, true},
		"accepts":                          {nftables.TableFamilyIPv4, nftables.ChainPolicyAccept, nftables.ChainHookInput, []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept}}, true},
		"of what goes out":                 {nftables.TableFamilyIPv4, nftables.ChainPolicyDrop, nftables.ChainHookOutput, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			netns.Enter(t)
			n := must(nftables.New())
			table := n.AddTable(&nftables.Table{Family: c.family, Name: "filter"})
			for _, one := range []struct {
				name string
				kind expr.VerdictKind
			}{{"dropping", expr.VerdictDrop}, {"accepting", expr.VerdictAccept}} {
				n.AddChain(&nftables.Chain{Table: table, Name: one.name + "2"})
				ch := n.AddChain(&nftables.Chain{Table: table, Name: one.name})
				n.AddRule(&nftables.Rule{Table: table, Chain: ch, Exprs: []expr.Any{&expr.Verdict{Kind: one.kind}}})
				n.AddRule(&nftables.Rule{Table: table, Chain: ch, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: one.name + "2"}}})
			}
			ch := n.AddChain(&nftables.Chain{Table: table, Name: "INPUT", Type: nftables.ChainTypeFilter, Hooknum: c.hook, Priority: nftables.ChainPriorityFilter, Policy: &c.policy})
			if c.rule != nil {
				n.AddRule(&nftables.Rule{Table: table, Chain: ch, Exprs: c.rule})
			}
			must(0, n.Flush())
			before := world(t)
			cfg := config(tap(1))
			cfg.Ports = []network.Port{claimed(t, tap(1), 80, hold(t, "0.0.0.0:8080", banger.TCP))}
			_, err := link.New(uid).Apply(cfg)
			if c.led != (err == nil) || !c.led && (banger.CodeOf(err) != banger.HostUnready || !strings.Contains(err.Error(), "INPUT") || world(t) != before) {
				t.Errorf("%v\n%s", err, world(t))
			}
			closed(t, before)
		})
	}
}

// What passes through the host to somewhere else is no port of the host's.
func TestPublishedPassedBy(t *testing.T) {
	netns.Enter(t)
	outside, local := internet(t), wire(t, "lan0", nearHost, near)
	must(0, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	local.greet(t)
	c := config(tap(1))
	c.Ports = []network.Port{claimed(t, tap(1), 81, hold(t, "0.0.0.0:80", banger.TCP))}
	apply(t, c)
	g := plug(t, tap(1))
	if got := outside.fetch(near); got != router.String() {
		t.Errorf("somebody behind the host answers %q", got)
	}
	if !g.ping(gateway) {
		t.Error("the guest is not there")
	}
}

// Docker, which drops what is forwarded, lets pass who comes by a published port.
func TestPublishedPastDocker(t *testing.T) {
	netns.Enter(t)
	outside := internet(t)
	firewall(t, "DOCKER-USER")
	c := config(tap(1))
	c.Ports = []network.Port{claimed(t, tap(1), 80, hold(t, "0.0.0.0:8080", banger.TCP))}
	apply(t, c)
	g := plug(t, tap(1))
	g.greet(t)
	if got := outside.fetchFrom(wanAddr.String() + ":8080"); got != router.String() {
		t.Errorf("the guest sees %q", got)
	}
	apply(t, config())
}

// Nothing comes from a tap as from the loopback, to which much is open: the rules drop
// it, whatever the host makes of it otherwise.
func TestFromLoopback(t *testing.T) {
	netns.Enter(t)
	lan(t)
	c := config(tap(1), tap(2))
	apply(t, c)
	g, victim := plug(t, tap(1)), plug(t, tap(2))
	g.in(func() { must(0, os.WriteFile("/proc/sys/net/ipv4/conf/all/route_localnet", []byte("1"), 0)) })
	loopback := netip.MustParseAddr("127.0.0.1")
	var host *guest
	atHost, atVictim := host.udp(t, 4242, netip.Addr{}), victim.udp(t, 4242, netip.Addr{})
	try := func() string {
		for _, to := range []netip.Addr{gateway, hostAddr, victim.tap.Addr} {
			g.send(t, loopback, to, "x")
		}
		if !g.ping(gateway) || !host.ping(victim.tap.Addr) {
			t.Error("no answer")
		}
		return received(atHost) + received(atHost) + received(atVictim)
	}
	if got := try(); got != "" {
		t.Errorf("arrived %q", got)
	}
	open := func() { // as somebody might, who does not know better
		for _, key := range []string{"all/route_localnet", tapName(1) + "/route_localnet", tapName(1) + "/accept_local", tapName(2) + "/route_localnet"} {
			must(0, os.WriteFile("/proc/sys/net/ipv4/conf/"+key, []byte("1"), 0))
		}
		must(0, os.WriteFile("/proc/sys/net/ipv4/conf/"+tapName(1)+"/rp_filter", []byte("0"), 0))
	}
	open()
	if got := try(); got != "" {
		t.Errorf("by the rules alone arrived %q", got)
	}
	flushRules(t)
	if got := try(); got == "" {
		t.Error("without rules nothing arrives: the test shows nothing")
	}
}

// As many ports as a request may have are set at once, and again.
func TestManyPublished(t *testing.T) {
	netns.Enter(t)
	internet(t)
	before := world(t)
	c := config(tap(1), tap(2))
	for n := range network.MaxPorts {
		at := fmt.Sprintf("%s:%d", []netip.Addr{wanAddr, netip.IPv4Unspecified()}[n%2], 10000+n)
		c.Ports = append(c.Ports, claimed(t, tap(1+n%2), uint16(1+n/4), hold(t, at, banger.UDP)))
	}
	apply(t, c)
	if changes := apply(t, c); len(changes) > 0 {
		t.Errorf("the second time changed %v", changes)
	}
	made := world(t)
	fewer := c
	fewer.Ports = c.Ports[1:]
	if changes := apply(t, fewer); len(changes) != 2 { // rules, and connections
		t.Errorf("without one changed %v", changes)
	}
	apply(t, c)
	if got := world(t); got != made {
		t.Errorf("not as it was:\n%s", got)
	}
	closed(t, before)
}

// A rule of a user who has the port no more, and asks nobody to take it away, leads
// nothing of the next one's.
func TestPublishedByAnother(t *testing.T) {
	netns.Enter(t)
	outside := internet(t)
	before := world(t)
	const other = uid - 1
	at := "0.0.0.0:8080"
	their := network.Config{Tag: "0001", Subnet: netip.MustParsePrefix("10.99.0.0/24"), Taps: []network.Tap{{VM: tap(9).VM, Addr: netip.MustParseAddr("10.99.0.9")}}}
	c := config(tap(1))
	mine := func() *os.File {
		socket := hold(t, at, banger.TCP)
		c.Ports = []network.Port{claimed(t, tap(1), 80, socket)}
		apply(t, c)
		return socket
	}
	theirs := func() *os.File {
		socket := hold(t, at, banger.TCP)
		p := network.Port{VM: tap(9).VM, Guest: 80}
		must(0, link.New(other).Claim(&p, socket))
		their.Ports = []network.Port{p}
		must(link.New(other).Apply(their))
		return socket
	}
	mine().Close() // of chains the kernel asks the latest first
	g := plug(t, tap(1))
	g.greet(t)
	for range 2 {
		theirs().Close()
		socket := mine()
		if got := outside.fetchFrom(wanAddr.String() + ":8080"); got != router.String() {
			t.Errorf("the guest sees %q", got)
		}
		socket.Close()
		their.Ports = nil
		must(link.New(other).Apply(their)) // and now the other's came first
		theirs().Close()
		apply(t, config(tap(1)))
	}
	their.Taps, their.Ports = nil, nil
	must(link.New(other).Apply(their))
	closed(t, before)
}

// What root leads elsewhere himself, without a socket of the host's that keeps the port,
// as kube-proxy and firewalld do, stays so whoever has bound a socket there.
func TestPublishedAndOthersNAT(t *testing.T) {
	for name, priority := range map[string]nftables.ChainPriority{"Docker's": -100, "firewalld's": -90} {
		t.Run(name, func(t *testing.T) {
			netns.Enter(t)
			outside := internet(t)
			serve := func(at, what string) {
				l := must(net.Listen("tcp4", at))
				t.Cleanup(func() { l.Close() })
				go func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						_, _ = c.Write([]byte(what))
						c.Close()
					}
				}()
			}
			serve(wanAddr.String()+":9090", "root's")
			n := must(nftables.New())
			table := n.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "others"})
			n.AddRule(&nftables.Rule{Table: table, Chain: n.AddChain(&nftables.Chain{Table: table, Name: "dnat", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: &priority}), Exprs: []expr.Any{
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{8080 >> 8, 8080 & 255}},
				&expr.Immediate{Register: 1, Data: wanAddr.AsSlice()}, &expr.Immediate{Register: 2, Data: []byte{9090 >> 8, 9090 & 255}},
				&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2, Specified: true}}})
			must(0, n.Flush())
			web := tap(1)
			c := config(web)
			c.Ports = []network.Port{claimed(t, web, 80, hold(t, "0.0.0.0:8080", banger.TCP)), claimed(t, web, 81, hold(t, "0.0.0.0:8081", banger.TCP))}
			apply(t, c)
			g := plug(t, web)
			g.greet(t)
			if got := outside.fetchFrom(wanAddr.String() + ":8080"); got != "root's" {
				t.Errorf("a port that root leads elsewhere: %q", got)
			}
			apply(t, config())
		})
	}
}
