package link_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/network"
	"banger/internal/network/addr"
	"banger/internal/network/link"
	"banger/test/netns"
)

// Where hosts that have Docker, and another user who has banger, have more addresses
// and neighbours.
var (
	dockerAddr = netip.MustParseAddr("172.17.0.1") // the host's, on a bridge
	container  = netip.MustParseAddr("172.17.0.2")
	otherTap   = network.Tap{VM: tap(9).VM, Addr: netip.MustParseAddr("10.99.0.9"), NAT: true}
	others     = network.Config{Tag: "0001", Subnet: netip.MustParsePrefix("10.99.0.0/24"), Taps: []network.Tap{otherTap}}
)

const ourMAC, allMAC = "02:00:00:00:00:07", "ff:ff:ff:ff:ff:ff"

// mark is in what the guest sends, and what others look for in all that they get.
const mark = "sent by a hostile guest"

// A sent is one frame of a hostile guest's. lax: it arrives, somewhere, where neither
// rules nor sysctls are in its way; else the kernel never takes it.
type sent struct {
	what  string
	frame []byte
	lax   bool
}

// allSent is what "a guest is hostile" comes to: each sentence of it, and each address
// that the host has.
func allSent(t *testing.T) (all []sent) {
	tapMAC := addr.TapMAC(uid, tag, tap(1).VM)
	add := func(lax bool, what string, frame []byte) { all = append(all, sent{what, frame, lax}) }
	own, sister, alone := tap(1).Addr, tap(2).Addr, tap(3).Addr
	a := netip.MustParseAddr

	// A foreign source address, to a sister and out.
	for _, from := range []struct {
		who string
		a   netip.Addr
		lax bool
	}{
		{"a sister", sister, true}, {"an isolated VM", alone, true}, {"nobody's of the subnet", tap(77).Addr, true},
		{"the gateway", gateway, true}, {"the resolver", network.SubnetOf(subnet).Resolver, true},
		{"the host's uplink", wanAddr, true}, {"the host's bridge", dockerAddr, true}, {"a container", container, true},
		{"the internet", far, true}, {"another installation's VM", otherTap.Addr, true}, {"link-local", a("169.254.1.1"), true},
		{"loopback", a("127.0.0.1"), false}, {"nothing", a("0.0.0.0"), false}, {"broadcast", a("255.255.255.255"), false}, {"multicast", a("224.0.0.1"), false},
	} {
		for _, to := range []netip.Addr{tap(4).Addr, far} {
			add(from.lax, fmt.Sprintf("as %s to %s", from.who, to), ether(t, tapMAC, ourMAC, unix.ETH_P_IP, udp4(from.a, to, 4242)))
		}
	}
	// The host's services, by whatever address of its; a sister's published port is one.
	for _, to := range []netip.Addr{gateway, network.SubnetOf(others.Subnet).Gateway, wanAddr, nearHost, dockerAddr} {
		add(true, fmt.Sprintf("to the host's %s", to), ether(t, tapMAC, ourMAC, unix.ETH_P_IP, udp4(own, to, 4242)))
	}
	add(true, "to all on the tap", ether(t, allMAC, ourMAC, unix.ETH_P_IP, udp4(own, a("255.255.255.255"), 4242)))
	add(true, "to a bridge's broadcast address", ether(t, tapMAC, ourMAC, unix.ETH_P_IP, udp4(own, a("172.17.255.255"), 4242)))
	add(false, "to the host's loopback", ether(t, tapMAC, ourMAC, unix.ETH_P_IP, udp4(own, a("127.0.0.1"), 4242)))
	add(true, "to the host's resolver, that is not banger's", ether(t, tapMAC, ourMAC, unix.ETH_P_IP, udp4(own, wanAddr, 53)))
	// Others, and what clouds keep at such addresses.
	for _, to := range []netip.Addr{alone, otherTap.Addr, container, near, metadata, a("168.63.129.16"), a("100.100.100.200"), tap(200).Addr} {
		add(true, fmt.Sprintf("to %s", to), ether(t, tapMAC, ourMAC, unix.ETH_P_IP, udp4(own, to, 4242)))
	}
	// MAC tricks: as the sister's tap or card, to it, to all.
	sisterTap := addr.TapMAC(uid, tag, tap(2).VM)
	add(true, "from another MAC to an isolated VM", ether(t, tapMAC, sisterTap, unix.ETH_P_IP, udp4(own, alone, 4242)))
	add(true, "from the tap's own MAC to an isolated VM", ether(t, tapMAC, tapMAC, unix.ETH_P_IP, udp4(own, alone, 4242)))
	add(false, "to another tap's MAC", ether(t, sisterTap, ourMAC, unix.ETH_P_IP, udp4(own, sister, 4242)))
	add(false, "to a bridge's MAC", ether(t, "02:42:00:00:00:01", ourMAC, unix.ETH_P_IP, udp4(own, container, 4242)))
	add(false, "to an isolated VM, to all MACs", ether(t, allMAC, ourMAC, unix.ETH_P_IP, udp4(own, alone, 4242)))
	add(true, "to the gateway, to all MACs", ether(t, allMAC, ourMAC, unix.ETH_P_IP, udp4(own, gateway, 4242)))
	add(false, "tagged as of a VLAN", ether(t, tapMAC, ourMAC, unix.ETH_P_8021Q, slices.Concat([]byte{0, 1, 8, 0}, udp4(own, alone, 4242))))
	add(false, "to a switch (STP)", ether(t, "01:80:c2:00:00:00", ourMAC, 0x0026, []byte(mark)))
	add(false, "of no protocol that is known", ether(t, allMAC, ourMAC, 0x88b5, []byte(mark)))
	// DHCP, as a server and as a client, and what finds services.
	add(true, "a DHCP offer", ether(t, allMAC, ourMAC, unix.ETH_P_IP, udp4(own, a("255.255.255.255"), 68)))
	add(true, "a DHCP offer, to a sister's address", ether(t, tapMAC, ourMAC, unix.ETH_P_IP, udp4(gateway, sister, 68)))
	add(true, "a DHCP request", ether(t, allMAC, ourMAC, unix.ETH_P_IP, udp4(own, a("255.255.255.255"), 67)))
	add(true, "a DHCP request, from 0.0.0.0", ether(t, allMAC, ourMAC, unix.ETH_P_IP, udp4(a("0.0.0.0"), a("255.255.255.255"), 67)))
	add(true, "mDNS", ether(t, "01:00:5e:00:00:fb", ourMAC, unix.ETH_P_IP, udp4(own, a("224.0.0.251"), 5353)))
	add(true, "source-routed to a sister", ether(t, tapMAC, ourMAC, unix.ETH_P_IP, routed4(own, gateway, alone)))
	// IPv6: a router's advertisement, and data to all nodes, to the host and to a sister.
	add(true, "IPv6 to all nodes", ether(t, "33:33:00:00:00:01", ourMAC, unix.ETH_P_IPV6, udp6(a("fe80::7"), a("ff02::1"))))
	add(false, "a router advertisement", ether(t, "33:33:00:00:00:01", ourMAC, unix.ETH_P_IPV6, advertisement(a("fe80::7"))))
	add(false, "IPv6 to the host's loopback", ether(t, tapMAC, ourMAC, unix.ETH_P_IPV6, udp6(a("fe80::7"), a("::1"))))
	add(false, "IPv6 to an address as of a sister's", ether(t, tapMAC, ourMAC, unix.ETH_P_IPV6, udp6(a("fd00::7"), a("fd00::8"))))
	// What the rules look at as an IPv4 source, or destination, are parts of an IPv6 source.
	leased := own.As4()
	six := netip.AddrFrom16([16]byte{0xfd, 0, 0, 0, leased[0], leased[1], leased[2], leased[3], 15: 7})
	add(true, "IPv6 that looks like its own address, to all nodes", ether(t, "33:33:00:00:00:01", ourMAC, unix.ETH_P_IPV6, udp6(six, a("ff02::1"))))
	add(false, "IPv6 that looks like its own address, to a sister's", ether(t, tapMAC, ourMAC, unix.ETH_P_IPV6, udp6(six, a("fd00::8"))))
	add(false, "IPv6 with an IPv4 address in it", ether(t, tapMAC, ourMAC, unix.ETH_P_IPV6, udp6(a("::ffff:10.77.16.10"), a("::ffff:10.77.16.11"))))
	return all
}

// Each of these frames is really sent, to a host with all that hosts have, and arrives
// nowhere: not at a socket of the host's, not at any other machine's card. That they
// arrive once rules and sysctls are gone shows that they were sent.
func TestHostileGuest(t *testing.T) {
	netns.Enter(t)
	world0, local, docker := internet(t), wire(t, "lan0", nearHost, near), bridged(t)
	apply(t, config(nat(tap(1)), tap(2), isolated(tap(3)), tap(4)))
	must(link.New(1).Apply(others))
	bad := plug(t, tap(1))
	guests := []guest{plug(t, tap(2)), plug(t, tap(3)), plug(t, tap(4))}
	second := plugOf(t, 1, others.Tag, network.SubnetOf(others.Subnet).Gateway, otherTap)
	ears := map[string]int{"internet": world0.sniff(t), "LAN": local.sniff(t), "container": docker.sniff(t), "another installation": second.sniff(t)}
	for n := range guests {
		ears["VM "+guests[n].tap.Addr.String()] = guests[n].sniff(t)
	}
	var host *guest
	for _, port := range []int{4242, 53, 67, 68, 5353} {
		ears[fmt.Sprintf("host, port %d", port)] = host.udp(t, port, netip.Addr{})
	}
	six := must(unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0))
	defer unix.Close(six)
	must(0, unix.SetsockoptInt(six, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1))
	must(0, unix.Bind(six, &unix.SockaddrInet6{Port: 4242}))
	ears["host, IPv6"] = six
	mdns := must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0))
	defer unix.Close(mdns)
	index := byName(t, tapName(1)).Attrs().Index
	must(0, unix.SetsockoptInt(mdns, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	must(0, unix.SetsockoptIPMreqn(mdns, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: [4]byte{224, 0, 0, 251}, Ifindex: int32(index)}))

	wireOut := bad.card(t)
	settle := func() {
		t.Helper()
		world0.through(t, &bad)
		for _, a := range []netip.Addr{near, container, otherTap.Addr, tap(2).Addr, tap(3).Addr, tap(4).Addr} {
			if !host.ping(a) {
				t.Errorf("no answer from %s", a)
			}
		}
	}
	arrived := func(frame []byte) (at []string) {
		bad.in(func() { must(unix.Write(wireOut, frame)) })
		settle()
		for name, ear := range ears {
			for got := received(ear); got != ""; got = received(ear) {
				if bytes.Contains([]byte(got), []byte(mark)) && !slices.Contains(at, name) {
					at = append(at, name)
				}
			}
		}
		slices.Sort(at)
		return at
	}
	// What may arrive does: the ears hear.
	tapMAC := addr.TapMAC(uid, tag, tap(1).VM)
	for to, want := range map[netip.Addr]string{tap(2).Addr: "[VM 10.77.16.11]", far: "[internet]"} {
		if got := fmt.Sprint(arrived(ether(t, tapMAC, ourMAC, unix.ETH_P_IP, udp4(tap(1).Addr, to, 4242)))); got != want {
			t.Errorf("what may be sent to %s came to %s", to, got)
		}
	}
	before, whole := neighbours(t), world(t)
	all := allSent(t)
	for _, s := range all {
		if at := arrived(s.frame); len(at) > 0 {
			t.Errorf("%s: arrived at %q", s.what, at)
		}
	}
	if after := world(t); after != whole {
		t.Errorf("the host was changed by it:\n%s\nwas\n%s", after, whole)
	}
	if after := neighbours(t); !slices.Equal(before, after) {
		t.Errorf("the host's neighbours are\n%q\nand were\n%q", after, before)
	}
	// The rules alone keep IPv6 away, too.
	must(0, os.WriteFile("/proc/sys/net/ipv6/conf/"+tapName(1)+"/disable_ipv6", []byte("0"), 0))
	for _, s := range all {
		if at := arrived(s.frame); strings.Contains(s.what, "IPv6") && len(at) > 0 {
			t.Errorf("%s: by the rules alone arrived at %q", s.what, at)
		}
	}
	loosen(t)
	for _, s := range all {
		if at := arrived(s.frame); (len(at) > 0) != s.lax {
			t.Errorf("%s: with nothing in its way arrived at %q, expected anywhere: %t", s.what, at, s.lax)
		}
	}
}

// loosen takes away rules, and all that keeps the host from taking and forwarding
// whatever it gets.
func loosen(t *testing.T) {
	t.Helper()
	flushRules(t)
	for _, l := range must(netlink.LinkList()) {
		for key, value := range map[string]string{
			"ipv4/conf/%s/rp_filter": "0", "ipv4/conf/%s/forwarding": "1", "ipv4/conf/%s/accept_local": "1", "ipv4/conf/%s/accept_source_route": "1", "ipv4/conf/%s/bc_forwarding": "1", "ipv6/conf/%s/disable_ipv6": "0",
		} {
			for _, name := range []string{l.Attrs().Name, "all"} {
				must(0, os.WriteFile("/proc/sys/net/"+fmt.Sprintf(key, name), []byte(value), 0))
			}
		}
	}
}

// Whoever a guest says it is by ARP, nobody believes it; and it is told of nobody but
// the gateway and the host, whose addresses are no secret and answer nothing.
func TestARP(t *testing.T) {
	netns.Enter(t)
	internet(t)
	docker := bridged(t)
	apply(t, config(nat(tap(1)), tap(2)))
	g := plug(t, tap(1))
	plug(t, tap(2))
	var host *guest
	for _, a := range []netip.Addr{tap(1).Addr, tap(2).Addr, container, router} {
		if !host.ping(a) {
			t.Fatalf("no answer from %s", a)
		}
	}
	elsewhere, heard := docker.sniff(t), g.sniff(t)
	before := neighbours(t)
	card := g.card(t)
	const request, reply = 1, 2
	bytesOf := func(s string) []byte { return must(net.ParseMAC(s)) }
	claim := func() {
		for _, claimed := range []netip.Addr{tap(2).Addr, gateway, network.SubnetOf(subnet).Resolver, container, dockerAddr, router, far, tap(50).Addr} {
			for _, to := range []string{allMAC, addr.TapMAC(uid, tag, tap(1).VM)} {
				for _, op := range []uint16{request, reply} {
					for _, target := range []netip.Addr{claimed, gateway, tap(2).Addr} {
						g.in(func() {
							must(unix.Write(card, ether(t, to, ourMAC, unix.ETH_P_ARP, arp(op, bytesOf(ourMAC), claimed, target))))
						})
					}
				}
			}
		}
	}
	claim()
	var asked []netip.Addr
	for _, a := range []netip.Addr{tap(2).Addr, container, router, far, tap(50).Addr} {
		asked = append(asked, a)
		g.in(func() {
			must(unix.Write(card, ether(t, allMAC, ourMAC, unix.ETH_P_ARP, arp(request, bytesOf(ourMAC), tap(1).Addr, a))))
		})
	}
	if !g.ping(gateway) || !host.ping(tap(2).Addr) || !host.ping(container) {
		t.Error("no answer")
	}
	if after := neighbours(t); !slices.Equal(before, after) {
		t.Errorf("the host's neighbours are\n%q\nand were\n%q", after, before)
	}
	for got := received(elsewhere); got != ""; got = received(elsewhere) {
		if isARP(got) && bytes.Contains([]byte(got), bytesOf(ourMAC)) {
			t.Errorf("a container hears of it: %x", got)
		}
	}
	for got := received(heard); got != ""; got = received(heard) {
		if !isARP(got) || len(got) < 42 || got[21] != reply {
			continue
		}
		if from, _ := netip.AddrFromSlice([]byte(got[28:32])); slices.Contains(asked, from) {
			t.Errorf("somebody answers for %s", from)
		}
	}
	loosen(t)
	if claim(); !g.ping(gateway) || slices.Equal(before, neighbours(t)) {
		t.Error("with nothing in its way a guest is not believed either: the test shows nothing")
	}
}

// neighbours are those that the host knows, but for how well it does at the moment.
func neighbours(t *testing.T) (all []string) {
	t.Helper()
	for _, n := range must(netlink.NeighList(0, unix.AF_INET)) {
		if n.State&(unix.NUD_NOARP|unix.NUD_FAILED|unix.NUD_INCOMPLETE) == 0 && n.HardwareAddr != nil {
			all = append(all, fmt.Sprintf("%s dev %d mac %s", n.IP, n.LinkIndex, n.HardwareAddr))
		}
	}
	slices.Sort(all)
	return all
}

// bridged is a container as Docker makes one: behind a bridge of the host's.
func bridged(t *testing.T) *guest {
	t.Helper()
	g := wire(t, "veth0", netip.MustParseAddr("172.17.0.3"), container)
	a := netlink.NewLinkAttrs()
	a.Name = "docker0"
	a.HardwareAddr = must(net.ParseMAC("02:42:00:00:00:01"))
	must(0, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: a}))
	br, port := byName(t, "docker0"), byName(t, "veth0")
	must(0, netlink.AddrDel(port, must(netlink.ParseAddr("172.17.0.3/24"))))
	must(0, netlink.LinkSetMaster(port, br.(*netlink.Bridge)))
	must(0, netlink.AddrAdd(br, must(netlink.ParseAddr(dockerAddr.String()+"/16"))))
	// No fe80 address that comes some time after it is up.
	must(0, os.WriteFile("/proc/sys/net/ipv6/conf/docker0/addr_gen_mode", []byte("1"), 0))
	must(0, netlink.LinkSetUp(br))
	return g
}

// sniff returns a socket that gets whatever a machine's cards get.
func (g *guest) sniff(t *testing.T) (fd int) {
	g.in(func() {
		const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
		fd = must(unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all&0xffff))
		must(0, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	})
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// card returns a socket that sends frames by eth0, as they are.
func (g *guest) card(t *testing.T) (fd int) {
	g.in(func() {
		l := must(netlink.LinkByName("eth0"))
		fd = must(unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0))
		must(0, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0, Ifindex: l.Attrs().Index}))
	})
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// Frames, by hand.

func ether(t *testing.T, to, from string, kind int, data []byte) []byte {
	t.Helper()
	f := slices.Concat(must(net.ParseMAC(to)), must(net.ParseMAC(from)), binary.BigEndian.AppendUint16(nil, uint16(kind)), data)
	return append(f, make([]byte, max(0, 60-len(f)))...)
}

func sum(b []byte) uint16 {
	var n uint32
	for i := 0; i+1 < len(b); i += 2 {
		n += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		n += uint32(b[len(b)-1]) << 8
	}
	for n>>16 != 0 {
		n = n&0xffff + n>>16
	}
	return ^uint16(n)
}

func datagram(port int) []byte {
	b := binary.BigEndian.AppendUint16(nil, 4243)
	b = binary.BigEndian.AppendUint16(b, uint16(port))
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(mark)))
	return append(append(b, 0, 0), mark...)
}

// udp4 is a datagram without a checksum of its own.
func udp4(from, to netip.Addr, port int) []byte { return ip4(from, to, nil, datagram(port)) }

// routed4 asks to be sent by way of another machine (LSRR, RFC 791).
func routed4(from, by, to netip.Addr) []byte {
	return ip4(from, by, slices.Concat([]byte{131, 7, 4}, to.AsSlice(), []byte{0}), datagram(4242))
}

func ip4(from, to netip.Addr, options, data []byte) []byte {
	size := 20 + len(options)
	h := []byte{byte(0x40 | size/4), 0, 0, 0, 0, 1, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	binary.BigEndian.PutUint16(h[2:], uint16(size+len(data)))
	h = slices.Concat(h, from.AsSlice(), to.AsSlice(), options)
	binary.BigEndian.PutUint16(h[10:], sum(h))
	return append(h, data...)
}

func udp6(from, to netip.Addr) []byte { return ip6(from, to, unix.IPPROTO_UDP, datagram(4242), 6) }

// advertisement is a router's, with a prefix for addresses (RFC 4861).
func advertisement(from netip.Addr) []byte {
	b := []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}
	b = slices.Concat(b, []byte{3, 4, 64, 0xc0, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0}, netip.MustParseAddr("fd00::").AsSlice())
	return ip6(from, netip.MustParseAddr("ff02::1"), unix.IPPROTO_ICMPV6, b, 2)
}

// ip6 puts the checksum at that place of data.
func ip6(from, to netip.Addr, proto byte, data []byte, at int) []byte {
	f, to16 := from.As16(), to.As16()
	pseudo := slices.Concat(f[:], to16[:], binary.BigEndian.AppendUint32(nil, uint32(len(data))), []byte{0, 0, 0, proto}, data)
	binary.BigEndian.PutUint16(data[at:], sum(pseudo))
	h := []byte{0x60, 0, 0, 0, 0, 0, proto, 255}
	binary.BigEndian.PutUint16(h[4:], uint16(len(data)))
	return slices.Concat(h, f[:], to16[:], data)
}

func arp(op uint16, mac []byte, from, target netip.Addr) []byte {
	h := []byte{0, 1, 8, 0, 6, 4, 0, byte(op)}
	return slices.Concat(h, mac, from.AsSlice(), make([]byte, 6), target.AsSlice())
}

func isARP(frame string) bool { return len(frame) > 14 && frame[12] == 8 && frame[13] == 6 }
