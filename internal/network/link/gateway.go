package link

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/network/addr"
)

// setGateway makes the link that holds the gateway's address. Nothing is ever
// sent there: it is there to have the address, up and with a carrier.
func (s *setter) setGateway() {
	name, want := addr.GatewayName(s.uid, s.tag), host(s.net.Gateway)
	l := s.mine[s.gatewayAlias()]
	if l == nil {
		s.do(true, "add gateway link", func() (err error) { l, err = s.addGateway(name); return err })
	}
	if s.err != nil {
		return
	}
	s.do(l.Attrs().Alias == "", "name gateway link", func() error { return s.LinkSetAlias(l, s.gatewayAlias()) })
	s.setSysctls(name, quiet...)
	found := false
	for _, a := range list(s, "addresses", func() ([]netlink.Addr, error) { return s.AddrList(l, unix.AF_INET) }) {
		same := a.IPNet.String() == want.String()
		found = found || same
		s.do(!same, "delete address", func() error { return s.AddrDel(l, &a) })
	}
	s.do(!found, "add address", func() error { return s.AddrAdd(l, &netlink.Addr{IPNet: want}) })
	s.do(l.Attrs().Flags&net.FlagUp == 0, "set gateway link up", func() error { return s.LinkSetUp(l) })
}

// addGateway takes the first kind that the kernel has. A bridge comes last: one
// without ports loses its carrier, which systemd-resolved minds.
func (s *setter) addGateway(name string) (l netlink.Link, err error) {
	a := netlink.NewLinkAttrs()
	a.Name = name
	if a.HardwareAddr, err = net.ParseMAC(addr.GatewayMAC(s.uid, s.tag)); err != nil {
		return nil, err
	}
	if err := s.free(name); err != nil {
		return nil, err
	}
	for _, l = range []netlink.Link{&netlink.Dummy{LinkAttrs: a}, &netlink.Ifb{LinkAttrs: a}, &netlink.Bridge{LinkAttrs: a}} {
		if err = s.LinkAdd(l); !errors.Is(err, unix.EOPNOTSUPP) {
			return l, err
		}
	}
	return nil, err
}

// host returns a/32.
func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}
