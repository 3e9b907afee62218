package link

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
	"banger/internal/network/addr"
)

const tunDevice = "/dev/net/tun"

func openTun() (fd int, err error) {
	fd, err = unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, banger.Errorf(banger.HostUnready, "open %s: %w", tunDevice, err).WithRemedy("sudo modprobe tun")
	}
	return fd, nil
}

func (s *setter) setTaps(c network.Config) error {
	routes, err := list(s, "routes", func() ([]netlink.Route, error) { return s.h.RouteList(nil, unix.AF_INET) })
	if err != nil {
		return err
	}
	to := map[string][]netlink.Route{}
	for _, r := range routes {
		if r.Dst != nil {
			to[r.Dst.String()] = append(to[r.Dst.String()], r)
		}
	}
	for _, t := range c.Taps {
		if err := s.setTap(t, to[host(t.Addr).String()]); err != nil {
			return fmt.Errorf("VM %s: %w", t.VM, err)
		}
	}
	return nil
}

// setTap makes a tap, or mends the one that is there. routes are those to its
// address.
func (s *setter) setTap(t network.Tap, routes []netlink.Route) error {
	l := s.taps[t.VM]
	if l != nil && !s.usable(l) {
		if err := s.do("delete unusable tap", func() error { return s.h.LinkDel(l) }); err != nil {
			return err
		}
		delete(s.names, l.Attrs().Name)
		l = nil
	}
	if l == nil {
		var err error
		if l, err = s.addTap(t); err != nil {
			return err
		}
	} else if err := s.setSysctls(l.Attrs().Name, guarded); err != nil {
		return err
	}
	if l.Attrs().Flags&net.FlagUp == 0 {
		if err := s.do("set tap up", func() error { return s.h.LinkSetUp(l) }); err != nil {
			return err
		}
	}
	return s.setRoute(l, t, routes)
}

// usable reports whether a tap that is o's by its alias is what addTap makes.
// The kernel's word for its owner counts, not ours.
func (s *setter) usable(l netlink.Link) bool {
	t, ok := l.(*netlink.Tuntap)
	a := l.Attrs()
	vm, _ := s.owns(a.Alias)
	return ok && t.Mode == netlink.TUNTAP_MODE_TAP && t.Owner == s.uid && !t.NonPersist && t.Flags&netlink.TUNTAP_MULTI_QUEUE == 0 &&
		a.Name == addr.TapName(s.uid, s.tag, vm) && a.HardwareAddr.String() == addr.TapMAC(s.uid, s.tag, vm)
}

// addTap makes a tap that outlives its maker as the last thing: until it has
// owner, alias, address and sysctls, the kernel removes it with the descriptor.
func (s *setter) addTap(t network.Tap) (netlink.Link, error) {
	name := addr.TapName(s.uid, s.tag, t.VM)
	if other := s.names[name]; other != nil {
		return nil, taken(other)
	}
	mac, err := net.ParseMAC(addr.TapMAC(s.uid, s.tag, t.VM))
	if err != nil {
		return nil, err
	}
	fd, err := openTun()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := s.do("add tap", func() error { return attach(fd, name) }); err != nil {
		return nil, err
	}
	l, err := s.h.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find tap: %w", err)
	}
	for _, c := range []struct {
		what string
		f    func() error
	}{
		{"give tap its owner", func() error { return unix.IoctlSetInt(fd, unix.TUNSETOWNER, int(s.uid)) }},
		{"name tap", func() error { return s.h.LinkSetAlias(l, s.tapAlias(t.VM, t.Addr)) }},
		{"give tap its address", func() error { return s.h.LinkSetHardwareAddr(l, mac) }},
		{"guard tap", func() error { return s.setSysctls(name, guarded) }},
		{"keep tap", func() error { return unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1) }},
	} {
		if err := s.do(c.what, c.f); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// attach makes the tap. Without packet information, as every VMM wants it; a
// header for offloads is whoever opens it next's to ask for.
func attach(fd int, name string) error {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_TUN_EXCL)
	return unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
}

// setRoute leads the VM's address to its tap; packets of the host's own come
// from the gateway's.
func (s *setter) setRoute(l netlink.Link, t network.Tap, routes []netlink.Route) error {
	gateway := net.IP(s.net.Gateway.AsSlice())
	want := netlink.Route{LinkIndex: l.Attrs().Index, Dst: host(t.Addr), Scope: netlink.SCOPE_LINK, Src: gateway, Protocol: unix.RTPROT_STATIC}
	for _, r := range routes {
		if r.LinkIndex != want.LinkIndex {
			continue
		}
		if r.Src.Equal(want.Src) && r.Scope == want.Scope && r.Gw == nil {
			return nil
		}
		if err := s.do("delete route", func() error { return s.h.RouteDel(&r) }); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return s.do("add route", func() error { return s.h.RouteAdd(&want) })
}
