package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/network/addr"
)

// setGateway makes the link that holds the gateway's address. Nothing is ever
// sent there: it is there to have the address, up and with a carrier.
func (s *setter) setGateway() error {
	name := addr.GatewayName(s.uid, s.tag)
	if s.gateway == nil {
		if other := s.names[name]; other != nil {
			return taken(other)
		}
		if err := s.do("add gateway link", func() error { return s.addGateway(name) }); err != nil {
			return err
		}
		l, err := s.h.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find the gateway link: %w", err)
		}
		s.gateway = l
	}
	a := s.gateway.Attrs()
	if a.Alias != s.gatewayAlias() {
		if err := s.do("name gateway link", func() error { return s.h.LinkSetAlias(s.gateway, s.gatewayAlias()) }); err != nil {
			return err
		}
	}
	if err := s.setSysctls(a.Name, quiet); err != nil {
		return err
	}
	if err := s.setGatewayAddr(); err != nil {
		return err
	}
	if a.Flags&net.FlagUp == 0 {
		return s.do("set gateway link up", func() error { return s.h.LinkSetUp(s.gateway) })
	}
	return nil
}

// addGateway takes the first kind that the kernel has. A bridge comes last: one
// without ports loses its carrier, which systemd-resolved minds.
func (s *setter) addGateway(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	mac, err := net.ParseMAC(addr.GatewayMAC(s.uid, s.tag))
	if err != nil {
		return err
	}
	attrs.HardwareAddr = mac
	for _, l := range []netlink.Link{&netlink.Dummy{LinkAttrs: attrs}, &netlink.Ifb{LinkAttrs: attrs}, &netlink.Bridge{LinkAttrs: attrs}} {
		if err = s.h.LinkAdd(l); !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	return err
}

// setGatewayAddr leaves the link with the gateway's address and no other.
func (s *setter) setGatewayAddr() error {
	addrs, err := list(s, "addresses", func() ([]netlink.Addr, error) { return s.h.AddrList(s.gateway, unix.AF_INET) })
	if err != nil {
		return err
	}
	want := host(s.net.Gateway)
	found := false
	for _, a := range addrs {
		if a.IPNet.String() == want.String() {
			found = true
			continue
		}
		if err := s.do("delete address", func() error { return s.h.AddrDel(s.gateway, &a) }); err != nil {
			return err
		}
	}
	if found {
		return nil
	}
	return s.do("add address", func() error { return s.h.AddrAdd(s.gateway, &netlink.Addr{IPNet: want}) })
}

func (s *setter) removeGateway() error {
	if s.gateway == nil {
		return nil
	}
	return s.do("delete gateway link", func() error { return s.h.LinkDel(s.gateway) })
}

// host returns a/32.
func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}
