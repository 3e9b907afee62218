package link

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger"
)

const tunDevice = "/dev/net/tun"

func openTun() (fd int, err error) {
	if fd, err = unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return -1, banger.Errorf(banger.HostUnready, "open %s: %w", tunDevice, err).WithRemedy("sudo modprobe tun")
	}
	return fd, nil
}

// setTaps makes taps, or mends those that are there.
func (s *setter) setTaps() {
	// A route that was there at first, and of which nothing here took link or address,
	// is there still.
	to := map[netip.Prefix][]*netlink.Route{}
	routes := list(s, "routes", s.allRoutes)
	for i := range routes {
		if r := &routes[i]; r.Table == unix.RT_TABLE_MAIN {
			dst := toPrefix(r.Dst)
			to[dst] = append(to[dst], r)
		}
	}
	for _, t := range s.taps {
		l := s.mine[t.alias]
		if l == nil && s.err == nil {
			l = s.addTap(t)
		}
		if s.err != nil {
			return
		}
		s.setSysctls(l.Attrs().Name, guarded...)
		s.do(l.Attrs().Flags&net.FlagUp == 0, "set tap up", func() error { return s.LinkSetUp(l) })
		s.setRoute(l, t, to[netip.PrefixFrom(t.Addr, 32)])
	}
}

// usable reports whether a tap that is s's by its alias is what addTap makes.
// Its owner is the kernel's word; root's taps were root's own once.
func (s *setter) usable(l netlink.Link, want tap) bool {
	t, ok := l.(*netlink.Tuntap)
	return ok && t.Mode == netlink.TUNTAP_MODE_TAP && (t.Owner == want.owner || t.Owner == s.uid) && !t.NonPersist && t.Flags&netlink.TUNTAP_MULTI_QUEUE == 0 &&
		t.Name == want.name && t.HardwareAddr.String() == want.mac
}

// addTap makes a tap that outlives its maker as the last thing: until it has
// owner, alias, address and sysctls, the kernel removes it with the descriptor.
func (s *setter) addTap(t tap) (l netlink.Link) {
	mac, err := net.ParseMAC(t.mac)
	fd, terr := openTun()
	if terr == nil {
		defer unix.Close(fd)
	}
	if s.err = errors.Join(err, terr, s.free(t.name)); s.err != nil {
		return nil
	}
	s.do(true, "add tap", func() (err error) {
		r, err := unix.NewIfreq(t.name)
		if err != nil {
			return err
		}
		r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_TUN_EXCL)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	})
	l = list(s, "tap", func() (netlink.Link, error) { return s.LinkByName(t.name) })
	s.do(true, "give tap its owner", func() error { return unix.IoctlSetInt(fd, unix.TUNSETOWNER, int(t.owner)) })
	s.do(true, "name tap", func() error { return s.LinkSetAlias(l, t.alias) })
	s.do(true, "give tap its address", func() error { return s.LinkSetHardwareAddr(l, mac) })
	s.setSysctls(t.name, guarded...)
	s.do(true, "keep tap", func() error { return unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1) })
	return l
}

// setRoute leads the VM's address to its tap; packets of the host's own come
// from the gateway's. there are the routes to that address.
func (s *setter) setRoute(l netlink.Link, t tap, there []*netlink.Route) {
	want := netlink.Route{LinkIndex: l.Attrs().Index, Dst: host(t.Addr), Scope: netlink.SCOPE_LINK, Src: s.net.Gateway.AsSlice(), Protocol: unix.RTPROT_STATIC}
	for _, r := range there {
		if r.LinkIndex == want.LinkIndex && r.Src.Equal(want.Src) && r.Scope == want.Scope && r.Gw == nil {
			return
		}
		s.do(r.LinkIndex == want.LinkIndex, "delete route", func() error { return s.RouteDel(r) })
	}
	s.do(true, "add route", func() error { return s.RouteAdd(&want) })
}

var (
	// quiet keeps IPv6 away, which a new link otherwise has: a guest would reach
	// what the host serves on [::] by link-local addresses.
	quiet = []sysctl{{"ipv6", "disable_ipv6", 26, "1"}, {"ipv6", "accept_ra", 3, "0"}}

	// guarded is what a tap has before it is up. Forwarding counts on the link that
	// a packet comes in by, whatever the host's ip_forward says.
	guarded = append(quiet[:2:2], sysctl{"ipv4", "accept_local", 22, "0"}, sysctl{"ipv4", "route_localnet", 25, "0"},
		sysctl{"ipv4", "accept_redirects", 3, "0"}, sysctl{"ipv4", "accept_source_route", 8, "0"},
		sysctl{"ipv4", "proxy_arp", 2, "0"}, sysctl{"ipv4", "rp_filter", 7, "1"}, forwarding("1"))
)

func forwarding(value string) sysctl { return sysctl{"ipv4", "forwarding", 0, value} }

// setSysctls writes those of a link that differ from what the survey saw, or says
// their file, of a link that is new. A kernel without IPv6 lacks those of IPv6.
func (s *setter) setSysctls(link string, all ...sysctl) {
	seen := s.sysctls[link]
	for _, c := range all {
		now, there := seen.now(c)
		if there && now == c.value {
			continue
		}
		path := "/proc/sys/net/" + c.family + "/conf/" + link + "/" + c.key
		if !there {
			b, err := os.ReadFile(path)
			now, there = string(bytes.TrimSpace(b)), err == nil || c.family == "ipv4" || !errors.Is(err, fs.ErrNotExist)
		}
		s.do(there && now != c.value, "set "+c.key, func() error { return os.WriteFile(path, []byte(c.value), 0) })
	}
}
