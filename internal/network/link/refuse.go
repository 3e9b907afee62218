package link

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"banger"
	"banger/internal/network"
)

// worldly: a route shorter than this is a way out to the world, not a neighbour:
// a default route, or the halves of one that VPNs use (as in addr.FreeSubnet).
const worldly = 8

// maxTaps bounds the taps of a uid, in all of its installations together.
const maxTaps = 1024

// refuse fails, as WrongState, if c adds a tap to a subnet that is in use on the
// host, or moves taps that are there to another subnet, and with it the gateway's
// address. What is there already may stay, and what goes may always go: a VPN that
// comes later must not keep VMs from being stopped.
func (s *setter) refuse(c network.Config, resolvs []string) {
	added := func(t tap) bool { return s.mine[t.alias] == nil }
	moved := len(c.Taps) > 0 && s.hasOtherGateway()
	if s.err != nil || !moved && !slices.ContainsFunc(s.taps, added) {
		return
	}
	s.refuseOthers(c)
	for _, p := range metadata {
		s.inUse(p.Overlaps(c.Subnet), "%s, where clouds keep a machine's secrets, lies in the VMs' subnet %s", p, c.Subnet)
	}
	for _, path := range resolvs {
		for _, a := range list(s, path, func() ([]netip.Addr, error) { return nameservers(path) }) {
			s.inUse(c.Subnet.Contains(a), "the host's resolver %s lies in the VMs' subnet %s", a, c.Subnet)
		}
	}
	for _, r := range list(s, "all routes", s.allRoutes) {
		p := toPrefix(r.Dst)
		mine := len(r.MultiPath) == 0 && s.index[r.LinkIndex]
		s.inUse(p.Bits() >= worldly && p.Overlaps(c.Subnet) && !mine, "the host's route to %s (table %d) overlaps the VMs' subnet %s", p, r.Table, c.Subnet)
		for _, hop := range append(r.MultiPath, &netlink.NexthopInfo{Gw: r.Gw}) {
			gw := toAddr(hop.Gw)
			s.inUse(p.Bits() < worldly && c.Subnet.Contains(gw), "the host's default gateway %s lies in the VMs' subnet %s", gw, c.Subnet)
		}
	}
}

// hasOtherGateway reports whether the installation has a gateway's link, and not
// one of this subnet.
func (s *setter) hasOtherGateway() bool {
	for alias := range s.mine {
		if strings.HasPrefix(alias, s.own+gatewayOf) && alias != s.gatewayAlias() {
			return true
		}
	}
	return false
}

// refuseOthers fails if another installation has a part of c's subnet: its routes
// tell only which addresses it uses now. It also keeps the uid to maxTaps,
// whatever tags it gives them.
func (s *setter) refuseOthers(c network.Config) {
	taps := len(c.Taps)
	for name, l := range s.names {
		alias := l.Attrs().Alias
		owner, subnet, ok := strings.Cut(alias, " "+gatewayOf)
		if strings.HasPrefix(alias, s.own) || !strings.HasPrefix(owner, "banger uid=") {
			continue
		}
		if p, err := netip.ParsePrefix(subnet); ok && err == nil {
			s.inUse(p.Overlaps(c.Subnet), "subnet %s of another installation (link %s) overlaps the VMs' subnet %s", p, name, c.Subnet)
		}
		if strings.HasPrefix(alias, fmt.Sprintf("banger uid=%d ", s.uid)) && !ok {
			taps++
		}
	}
	if s.err == nil && taps > maxTaps {
		s.err = banger.Errorf(banger.WrongState, "%d taps for uid %d, %d are allowed in all its installations", taps, s.uid, maxTaps).
			WithRemedy("stop VMs of another installation")
	}
}

func (s *setter) inUse(is bool, format string, a ...any) {
	if s.err == nil && is {
		s.err = banger.Errorf(banger.WrongState, format, a...).WithRemedy("give the VMs another subnet: banger network move SUBNET")
	}
}

// toPrefix is a route's destination, nil that of a default route.
func toPrefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(toAddr(n.IP), ones)
}

func toAddr(ip []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// nameservers reads resolv.conf(5). One that is not there names none.
func nameservers(path string) (servers []netip.Addr, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for line := range strings.Lines(string(b)) {
		if w := strings.Fields(line); len(w) > 1 && w[0] == "nameserver" {
			if a, err := netip.ParseAddr(w[1]); err == nil {
				servers = append(servers, a.Unmap())
			}
		}
	}
	return servers, err
}
