package link

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/network"
)

// Uplinks are the links by which the host's IPv4 routes lead out to the world,
// whatever table and metric they have: which of them a packet takes is the
// host's routing. None is no error. Reading needs no privilege.
//
// Others than banger-root call it: it passes no point at which that is made to fail.
func Uplinks() ([]netlink.Link, error) {
	h := &netlink.Handle{}
	links, err := whole(h.LinkList)
	if err != nil {
		return nil, err
	}
	routes, err := whole(func() ([]netlink.Route, error) { return allRoutes(h) })
	if err != nil {
		return nil, err
	}
	ways := waysOut(routes)
	return slices.DeleteFunc(links, func(l netlink.Link) bool { return !ways[l.Attrs().Index] }), nil
}

// allRoutes are those of all tables.
func allRoutes(h *netlink.Handle) ([]netlink.Route, error) {
	return h.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
}

// waysOut are the links, by index, of the routes that lead out to the world.
func waysOut(routes []netlink.Route) map[int]bool {
	index := map[int]bool{}
	for _, r := range routes {
		if toPrefix(r.Dst).Bits() >= worldly || r.Type != unix.RTN_UNICAST {
			continue
		}
		for _, hop := range append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: r.LinkIndex}) {
			index[hop.LinkIndex] = true
		}
	}
	return index
}

// Forwarding on an uplink lets answers come in. Where banger switched it on says
// an alternative name of the link: it goes with the link, as the sysctl does,
// follows it when it is renamed, and outlives any flush of the rules. No two links
// of a host may have the same, so the link's index is part of it.
const prefix = "banger_" // of all installations

func (s *setter) mark(index int) string { return fmt.Sprintf("%s_%d", s.tableName(), index) }

// forwards reports whether IPv4 that comes in by a link, or by "all", is forwarded.
func forwards(link string) bool {
	b, _ := os.ReadFile("/proc/sys/net/ipv4/conf/" + link + "/forwarding")
	return string(bytes.TrimSpace(b)) == "1"
}

// chooseUplinks finds the uplinks if a tap has NAT or a port, gives back those that are
// none any more, and claims those that lack forwarding. A host that forwards
// everywhere does so for its own reasons, and needs and owes nothing.
func (s *setter) chooseUplinks(c network.Config) {
	if len(c.Ports) > 0 || slices.ContainsFunc(c.Taps, func(t network.Tap) bool { return t.NAT }) {
		ways := waysOut(list(s, "ways out", s.allRoutes))
		for _, l := range s.names {
			if a := l.Attrs(); ways[a.Index] && !s.index[a.Index] {
				s.uplinks = append(s.uplinks, l)
			}
		}
	}
	everywhere := forwards("all")
	for _, l := range s.names {
		a := l.Attrs()
		if s.index[a.Index] { // 200 of them would cost
			continue
		}
		mark := s.mark(a.Index)
		mine := slices.Contains(a.AltNames, mark)
		others := slices.ContainsFunc(a.AltNames, func(n string) bool { return strings.HasPrefix(n, prefix) && n != mark })
		if !everywhere && slices.Contains(s.uplinks, l) {
			claim := !mine && (others || !forwards(a.Name))
			s.do(claim, "claim uplink", func() error { return s.LinkAddAltName(l, mark) })
			if mine || claim {
				s.opened = append(s.opened, l)
			}
		} else if mine {
			if !everywhere && !others {
				s.setSysctls(a.Name, forwarding("0"))
			}
			s.do(true, "give back uplink", func() error { return s.LinkDelAltName(l, mark) })
		}
	}
}

// openUplinks lets answers in: after the rules, which let in nothing else.
func (s *setter) openUplinks() {
	for _, l := range s.opened {
		s.setSysctls(l.Attrs().Name, forwarding("1"))
	}
}
