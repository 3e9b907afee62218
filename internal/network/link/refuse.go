package link

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
)

// worldly is where a route is a way out to the world, not a neighbour: a
// default route, or the halves of one that VPNs use (as addr.FreeSubnet has it).
const worldly = 8

const moveRemedy = "give the VMs another subnet: banger network move SUBNET"

// refuse reports whether c adds a tap to a subnet that is in use on the host,
// as WrongState. What is there already may stay, and what goes may always go:
// a VPN that comes later must not keep VMs from being stopped.
func (s *setter) refuse(c network.Config) error {
	adds := false
	for _, t := range c.Taps {
		l := s.taps[t.VM]
		adds = adds || l == nil || l.Attrs().Alias != s.tapAlias(t.VM, t.Addr)
	}
	if !adds {
		return nil
	}
	for _, path := range s.resolvs {
		servers, err := nameservers(path)
		if err != nil {
			return err
		}
		for _, a := range servers {
			if c.Subnet.Contains(a) {
				return banger.Errorf(banger.WrongState, "the host's resolver %s lies in the VMs' subnet %s", a, c.Subnet).WithRemedy(moveRemedy)
			}
		}
	}
	routes, err := list(s, "all routes", func() ([]netlink.Route, error) {
		return s.h.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return err
	}
	for _, r := range routes {
		if err := s.refuseRoute(c.Subnet, r); err != nil {
			return err
		}
	}
	return nil
}

func (s *setter) refuseRoute(subnet netip.Prefix, r netlink.Route) error {
	if p := prefix(r); p.Bits() >= worldly {
		if !p.Overlaps(subnet) || len(r.MultiPath) == 0 && s.mine[r.LinkIndex] {
			return nil
		}
		return banger.Errorf(banger.WrongState, "the host's route to %s (table %d) overlaps the VMs' subnet %s", p, r.Table, subnet).WithRemedy(moveRemedy)
	}
	hops := []netip.Addr{toAddr(r.Gw)}
	for _, n := range r.MultiPath {
		hops = append(hops, toAddr(n.Gw))
	}
	for _, a := range hops {
		if subnet.Contains(a) {
			return banger.Errorf(banger.WrongState, "the host's default gateway %s lies in the VMs' subnet %s", a, subnet).WithRemedy(moveRemedy)
		}
	}
	return nil
}

func prefix(r netlink.Route) netip.Prefix {
	if r.Dst == nil {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	ones, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(toAddr(r.Dst.IP), ones)
}

func toAddr(ip []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// nameservers reads resolv.conf(5). One that is not there names none.
func nameservers(path string) (servers []netip.Addr, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, 64<<10))
	for lines.Scan() {
		w := strings.Fields(lines.Text())
		if len(w) < 2 || w[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(w[1]); err == nil {
			servers = append(servers, a.Unmap())
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return servers, nil
}
