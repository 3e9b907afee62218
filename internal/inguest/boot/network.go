package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/guestapi"
)

const linkName = "eth0" // the kernel is told net.ifnames=0

// setUpNetwork gives eth0 its address and, if there is none, the default route.
// What is there already stays.
func setUpNetwork(id guestapi.Identity) error {
	if lo, err := netlink.LinkByName("lo"); err == nil {
		complain("set up lo", netlink.LinkSetUp(lo))
	}
	link, err := netlink.LinkByName(linkName)
	if err != nil {
		return fmt.Errorf("find %s: %w", linkName, err)
	}
	want, err := net.ParseMAC(id.MAC)
	if err != nil {
		return err
	}
	if got := link.Attrs().HardwareAddr; !bytes.Equal(got, want) {
		return fmt.Errorf("%s has the MAC address %s, not %s", linkName, got, want)
	}
	// Before address and link: some hosts cannot reach a guest that has never
	// sent a frame, and this makes the kernel announce the address.
	complain("announce address", os.WriteFile("/proc/sys/net/ipv4/conf/"+linkName+"/arp_notify", []byte("1"), 0))
	complain("switch IPv6 off", noIPv6())
	addr := &net.IPNet{IP: id.Address.Addr().AsSlice(), Mask: net.CIDRMask(id.Address.Bits(), id.Address.Addr().BitLen())}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: addr}); err != nil {
		return fmt.Errorf("set address: %w", err)
	}
	if id.MTU != 0 {
		complain("set MTU", netlink.LinkSetMTU(link, id.MTU))
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", linkName, err)
	}
	if err := addNeighbour(link, id); err != nil {
		return err
	}
	if hasDefaultRoute() {
		return nil
	}
	// on-link: the gateway is outside a /32
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: id.Gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
	if err := netlink.RouteAdd(route); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("set default route: %w", err)
	}
	return nil
}

// noIPv6 keeps eth0 from having an address of IPv6, which a link otherwise takes when it
// is up: nothing answers there, and programs would try it first. A kernel may have none.
func noIPv6() error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+linkName+"/disable_ipv6", []byte("1"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// addNeighbour spares a host that would not answer ARP the question.
func addNeighbour(link netlink.Link, id guestapi.Identity) error {
	if id.GatewayMAC == "" {
		return nil
	}
	mac, err := net.ParseMAC(id.GatewayMAC)
	if err == nil {
		err = netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: unix.NUD_PERMANENT, IP: id.Gateway.AsSlice(), HardwareAddr: mac})
	}
	if err != nil {
		return fmt.Errorf("set gateway's neighbour entry: %w", err)
	}
	return nil
}
