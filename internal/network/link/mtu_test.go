package link_test

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/test/netns"
)

// An uplink that is narrower than a guest's card is found by the guest: the host's word
// that a packet is too long comes to it, by NAT as well.
func TestPathMTU(t *testing.T) {
	netns.Enter(t)
	outside := internet(t)
	apply(t, config(nat(tap(1))))
	g := plug(t, tap(1))
	inbox := outside.udp(t, 4242, netip.Addr{})
	must(0, netlink.LinkSetMTU(byName(t, "wan0"), 1300)) // as of a VPN that comes later
	fd := g.udp(t, 5000, netip.Addr{})
	send := func(size int) (err error) {
		g.in(func() { _, err = unix.Write(fd, make([]byte, size)) })
		outside.through(t, &g)
		return err
	}
	g.in(func() {
		must(0, unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO))
		must(0, unix.Connect(fd, sockaddr(far, 4242)))
	})
	if err := send(1400); err != nil {
		t.Errorf("a guest of MTU 1500 sends 1400 bytes: %v", err)
	}
	if mtu := must(unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)); mtu != 1300 {
		t.Errorf("it takes the path for one of %d", mtu)
	}
	_ = send(1200) // the socket is told of the first one here, at the latest
	_ = send(1200)
	if got := received(inbox); len(got) != 1200 {
		t.Errorf("%d bytes arrived", len(got))
	}
}
