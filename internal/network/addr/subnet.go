// Package addr computes addresses: the installation's subnet, what is leased
// to a VM, and the user that a VM's VMM runs as below a root daemon. It looks
// at nothing on the host; what is taken is handed in.
package addr

import (
	"math/rand/v2"
	"net/netip"
	"strings"

	"banger"
)

// Bits is the length of an installation's prefix: 4092 VMs.
const Bits = 20

// pools are the private networks that a subnet is chosen from, in order: 10/8
// has the most room, 100.64/10 (RFC 6598) is what VPNs like Tailscale use.
var pools = prefixes("10.0.0.0/8 172.16.0.0/16 100.64.0.0/10")

// lastResort are pools that others count on being free.
var lastResort = prefixes("192.168.0.0/16 172.17.0.0/16 172.18.0.0/15 172.20.0.0/14 172.24.0.0/13 10.0.0.0/8 100.64.0.0/10")

// shunned are free on this host now and still better left alone, because what
// uses them comes later or sits behind a VPN. The first two lines are Docker's
// default-address-pools (moby, libnetwork/ipamutils).
var shunned = prefixes(`
	172.17.0.0/16 172.18.0.0/16 172.19.0.0/16 172.20.0.0/14 172.24.0.0/14 172.28.0.0/14
	192.168.0.0/16
	10.0.0.0/16 10.1.0.0/16
	10.88.0.0/16 10.89.0.0/16
	10.42.0.0/15 10.96.0.0/12 10.244.0.0/16`) // then: home and office routers, podman, k3s, Kubernetes

// alibaba is where that cloud tells its machines their secrets: who has it on a
// tap could tell the host other ones. No route of the host names it.
var alibaba = netip.MustParsePrefix("100.100.100.200/32")

// FreeSubnet returns a /20 of private addresses that overlaps nothing in taken:
// the host's routes, its resolvers, other installations. A route shorter than
// /8 is a way out to the world, not a neighbour, and does not count; IPv6 does
// not either. seed picks among the free ones, so that two hosts which later
// share a VPN seldom chose the same. HostUnready if none is left.
func FreeSubnet(taken []netip.Prefix, seed uint64) (netip.Prefix, error) {
	used := append(neighbours(taken), alibaba)
	polite := append(used[:len(used):len(used)], shunned...)
	r := rand.New(rand.NewPCG(seed, seed))
	for _, p := range pools {
		if s, ok := pick(p, polite, r); ok {
			return s, nil
		}
	}
	for _, p := range lastResort {
		if s, ok := pick(p, used, r); ok {
			return s, nil
		}
	}
	return netip.Prefix{}, banger.Errorf(banger.HostUnready, "the host's routes leave no private /%d free for VMs", Bits).
		WithRemedy("see what takes them: ip route")
}

// neighbours are the IPv4 networks of taken that are no way out to the world.
func neighbours(taken []netip.Prefix) (used []netip.Prefix) {
	for _, p := range taken {
		if a := p.Addr().Unmap(); p.IsValid() && a.Is4() {
			bits := p.Bits()
			if p.Addr().Is4In6() {
				bits -= 96
			}
			if bits >= 8 {
				used = append(used, netip.PrefixFrom(a, bits))
			}
		}
	}
	return used
}

// pick returns a /20 of pool that overlaps none of used, looking from a random
// one on, round to where it began.
func pick(pool netip.Prefix, used []netip.Prefix, r *rand.Rand) (netip.Prefix, bool) {
	n := 1 << (Bits - pool.Bits())
	start := r.IntN(n)
	for i := range n {
		s := netip.PrefixFrom(add(pool.Addr(), uint32((start+i)%n)<<(32-Bits)), Bits)
		if !overlaps(s, used) {
			return s, true
		}
	}
	return netip.Prefix{}, false
}

func overlaps(p netip.Prefix, with []netip.Prefix) bool {
	for _, w := range with {
		if p.Overlaps(w) {
			return true
		}
	}
	return false
}

func prefixes(list string) (all []netip.Prefix) {
	for _, s := range strings.Fields(list) {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}
