package boot_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"banger/internal/guestapi"
	"banger/internal/inguest/boot"
)

// keepNetwork is a machine in which eth0 loses something again and again, until
// it is not put back any more.
func keepNetwork() {
	id := guestapi.Identity{
		MAC: "52:54:00:12:34:56", Address: netip.MustParsePrefix("172.30.0.3/32"),
		Gateway: netip.MustParseAddr("172.30.0.1"), GatewayMAC: "52:54:00:65:43:21",
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	attrs.HardwareAddr, _ = net.ParseMAC(id.MAC)
	if err := netlink.LinkAdd(&netlink.Ifb{LinkAttrs: attrs}); err != nil {
		if err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs}); err != nil {
			fmt.Println("no link:", err)
			return
		}
	}
	if err := boot.SetUpNetwork(id); err != nil {
		fmt.Println(err)
		return
	}
	if off, err := os.ReadFile("/proc/sys/net/ipv6/conf/eth0/disable_ipv6"); err == nil && string(off) != "1\n" {
		fmt.Printf("IPv6 is on: %q\n", off)
	}
	ended := make(chan error, 1)
	go func() { ended <- boot.Keep(id, 10*time.Millisecond, 320*time.Millisecond, time.Hour) }()
	for _, loss := range []string{"address", "link", "route", "neighbour and link", "address", "address"} {
		if err := lose(loss); err != nil {
			fmt.Println(loss, err)
		}
		fmt.Println(loss, boot.Whole(id), back(id, ended))
	}
	// Another's default route is left in the place of ours.
	fmt.Println(lose("default"), boot.Whole(id))
	fmt.Println(lose("address"), errors.Is(<-ended, boot.Fought))
}

// lose takes something away as a DHCP client, a script or a user does.
func lose(what string) error {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	switch what {
	case "address": // and with the last one all routes
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil || len(addrs) != 1 {
			return fmt.Errorf("addresses %v, %w", addrs, err)
		}
		return netlink.AddrDel(link, &addrs[0])
	case "link":
		return netlink.LinkSetDown(link)
	case "route":
		routes, err := netlink.RouteList(link, netlink.FAMILY_V4)
		if err != nil || len(routes) != 1 {
			return fmt.Errorf("routes %v, %w", routes, err)
		}
		return netlink.RouteDel(&routes[0])
	case "neighbour and link":
		return errors.Join(netlink.LinkSetDown(link), netlink.LinkSetUp(link))
	case "default":
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.RouteReplace(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}})
	}
	return fmt.Errorf("no loss %q", what)
}

// back says how a loss ended.
func back(id guestapi.Identity, ended <-chan error) string {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !boot.Whole(id) {
		select {
		case err := <-ended:
			return err.Error()
		case <-limit:
			return "never"
		case <-tick.C:
		}
	}
	return "back"
}

func TestKeepNetwork(t *testing.T) {
	_, out := run(t, "keep network", machine(t, nil))
	const want = "address false back\nlink false back\nroute false back\nneighbour and link false back\naddress false back\naddress false back\n<nil> true\n<nil> true\n"
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}
