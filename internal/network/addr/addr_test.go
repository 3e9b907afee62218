package addr_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"banger"
	"banger/internal/network"
	"banger/internal/network/addr"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// Whatever the host's routes are, the subnet is a private /20 beside them, and
// away from Docker's pools as long as there is another place.
func TestFreeSubnet(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	docker := []netip.Prefix{prefix("172.17.0.0/16"), prefix("172.18.0.0/15"), prefix("172.20.0.0/14"), prefix("172.24.0.0/13"), prefix("192.168.0.0/16")}
	for range 500 {
		var taken []netip.Prefix
		for range r.IntN(12) {
			a := netip.AddrFrom4([4]byte{[]byte{10, 172, 192, 100}[r.IntN(4)], byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
			taken = append(taken, netip.PrefixFrom(a, 9+r.IntN(24)))
		}
		s, err := addr.FreeSubnet(taken, r.Uint64())
		if err != nil {
			t.Fatalf("taken %v: %v", taken, err)
		}
		if s.Bits() != 20 || s != s.Masked() || !s.Addr().Is4() || !s.Addr().IsPrivate() && !prefix("100.64.0.0/10").Contains(s.Addr()) {
			t.Errorf("%s is no private /20", s)
		}
		for _, p := range append(taken, docker...) {
			if s.Overlaps(p) {
				t.Errorf("%s overlaps %s; taken: %v", s, p, taken)
			}
		}
	}
}

// Not even where nothing else is left.
func TestFreeSubnetIsNotMetadata(t *testing.T) {
	taken := []netip.Prefix{prefix("10.0.0.0/8"), prefix("172.16.0.0/12"), prefix("192.168.0.0/16"), prefix("100.64.0.0/11"), prefix("100.112.0.0/12"), prefix("100.104.0.0/13"), prefix("100.96.0.0/14"),
		prefix("100.102.0.0/15"), prefix("100.101.0.0/16"), prefix("100.100.0.0/18"), prefix("100.100.128.0/17"), prefix("100.100.64.0/19"), prefix("100.100.112.0/20")}
	if s, err := addr.FreeSubnet(taken, 1); err == nil {
		t.Errorf("%s", s)
	}
}

func TestFreeSubnetIsStable(t *testing.T) {
	a, _ := addr.FreeSubnet(nil, 7)
	b, _ := addr.FreeSubnet(nil, 7)
	c, _ := addr.FreeSubnet(nil, 8)
	if a != b || a == c {
		t.Errorf("%s %s %s", a, b, c)
	}
}

// A default route, or a VPN's two halves of one, overlaps everything and takes
// nothing.
func TestDefaultRoutesTakeNothing(t *testing.T) {
	taken := []netip.Prefix{prefix("0.0.0.0/0"), prefix("0.0.0.0/1"), prefix("128.0.0.0/1"), prefix("::/0"), prefix("fd00::/8"), {}}
	s, err := addr.FreeSubnet(taken, 1)
	if err != nil || !prefix("10.0.0.0/8").Overlaps(s) {
		t.Errorf("%v %v", s, err)
	}
}

func TestPoolsInOrder(t *testing.T) {
	taken := []netip.Prefix{}
	for _, step := range []struct{ in, take string }{
		{"10.0.0.0/8", "10.0.0.0/8"},
		{"172.16.0.0/16", "::ffff:172.16.0.0/112"}, // IPv4 in IPv6 counts too
		{"100.64.0.0/10", "100.64.0.0/10"},
		{"192.168.0.0/16", "192.168.0.0/16"},
		{"172.16.0.0/12", "172.16.0.0/12"},
	} {
		s, err := addr.FreeSubnet(taken, 3)
		if err != nil || !prefix(step.in).Overlaps(s) {
			t.Fatalf("taken %v: %v %v, want one of %s", taken, s, err, step.in)
		}
		taken = append(taken, prefix(step.take))
	}
	_, err := addr.FreeSubnet(taken, 3)
	if e := banger.AsError(err); e == nil || e.Code != banger.HostUnready || e.Remedy == "" {
		t.Errorf("nothing free: %v", err)
	}
}

// Leases of a whole subnet: all different, none of the subnet's own addresses,
// then an error; one that is given back is the next one leased.
func TestLeaseAll(t *testing.T) {
	sub := network.SubnetOf(prefix("10.9.16.0/24"))
	var taken []banger.Lease
	addrs, macs, ids := map[netip.Addr]bool{}, map[string]bool{}, map[string]bool{}
	for n := range 252 {
		l, err := addr.Lease("beef", sub, banger.VMID(fmt.Sprintf("%08x", n)), taken)
		if err != nil {
			t.Fatal(n, err)
		}
		m, err := net.ParseMAC(l.MAC)
		if err != nil || m[0]&3 != 2 {
			t.Errorf("MAC %s: %v", l.MAC, err)
		}
		if l.Addr == sub.Gateway || l.Addr == sub.Resolver || !sub.Prefix.Contains(l.Addr) || l.Addr.As4()[3] == 0 || l.Addr.As4()[3] == 255 {
			t.Errorf("leased %s", l.Addr)
		}
		if addrs[l.Addr] || macs[l.MAC] || ids[l.MachineID] || len(l.MachineID) != 32 {
			t.Errorf("leased twice: %+v", l)
		}
		addrs[l.Addr], macs[l.MAC], ids[l.MachineID] = true, true, true
		taken = append(taken, l)
	}
	if _, err := addr.Lease("beef", sub, "ffffffff", taken); banger.CodeOf(err) != banger.WrongState {
		t.Errorf("full subnet: %v", err)
	}
	free := taken[100]
	if l, err := addr.Lease("beef", sub, "ffffffff", append(taken[:100:100], taken[101:]...)); err != nil || l.Addr != free.Addr {
		t.Errorf("%v %v, want %s", l, err, free.Addr)
	}
}

func TestMACFollowsFromTagAndID(t *testing.T) {
	sub := network.SubnetOf(prefix("10.9.16.0/20"))
	lease := func(tag string, id banger.VMID, taken ...banger.Lease) string {
		l, err := addr.Lease(tag, sub, id, taken)
		if err != nil {
			t.Fatal(err)
		}
		return l.MAC
	}
	a := lease("beef", "00000001")
	if a != lease("beef", "00000001") || a == lease("beee", "00000001") || a == lease("beef", "00000002") {
		t.Error("a MAC is not its VM's")
	}
	if b := lease("beef", "00000001", banger.Lease{MAC: a}); a == b {
		t.Error("a taken MAC was leased again")
	}
}

// Every address of every tag has a user of its own, in the range that nobody has.
func TestTapOwner(t *testing.T) {
	sub, a := prefix("10.9.16.0/20"), netip.MustParseAddr("10.9.16.3")
	if got := addr.TapOwner(1000, "0001", sub, a); got != 1000 {
		t.Errorf("a user's: %d", got)
	}
	if got := addr.TapOwner(0, "0001", sub, a); got != 0x70001003 {
		t.Errorf("root's: %#x", got)
	}
	if got := addr.TapOwner(0, "0001", prefix("10.0.0.0/16"), a); got != 0 {
		t.Errorf("root's, without a user of its own: %#x", got)
	}
}

func TestUID(t *testing.T) {
	sub := prefix("10.9.16.0/20")
	for _, c := range []struct {
		tag, addr string
		want      uint32
	}{
		{"0000", "10.9.16.3", 0x70000003},
		{"0001", "10.9.31.254", 0x70001ffe},
		{"ffff", "10.9.31.254", banger.LastOwner},
	} {
		if got, err := addr.UID(c.tag, sub, netip.MustParseAddr(c.addr)); err != nil || got != c.want {
			t.Errorf("%s %s: %d %v, want %d", c.tag, c.addr, got, err, c.want)
		}
	}
	for _, c := range []struct {
		tag  string
		sub  netip.Prefix
		addr string
	}{
		{"", sub, "10.9.16.3"}, {"xxxx", sub, "10.9.16.3"}, {"+1ff", sub, "10.9.16.3"}, {"12345", sub, "10.9.16.3"},
		{"beef", sub, "10.9.32.3"}, {"beef", prefix("10.0.0.0/16"), "10.0.0.3"}, {"beef", sub, "::1"}, {"beef", prefix("fd00::/64"), "fd00::1"},
	} {
		if got, err := addr.UID(c.tag, c.sub, netip.MustParseAddr(c.addr)); err == nil {
			t.Errorf("%s %s %s: %d", c.tag, c.sub, c.addr, got)
		}
	}
}
