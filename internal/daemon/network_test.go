package daemon_test

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"banger/internal/daemon"
	"banger/internal/network/addr"
	"banger/test/netns"
)

// Another user may have the same tag, and links whose names begin alike: these are
// nothing that is left of ours, and their addresses are taken.
func TestSameTagOfAnotherUser(t *testing.T) {
	netns.Enter(t)
	uid := uint32(os.Geteuid())
	const tag = "beef"
	link := func(name, alias, to string) {
		t.Helper()
		a := netlink.NewLinkAttrs()
		a.Name = name
		l := &netlink.Ifb{LinkAttrs: a}
		_, dst, err := net.ParseCIDR(to)
		for _, err := range []error{err, netlink.LinkAdd(l), netlink.LinkSetAlias(l, alias), netlink.LinkSetUp(l),
			netlink.RouteAdd(&netlink.Route{LinkIndex: l.Index, Dst: dst, Scope: netlink.SCOPE_LINK})} {
			if err != nil {
				t.Fatal(name, err)
			}
		}
	}
	mine, gateway := addr.TapName(uid, tag, "00000001"), addr.GatewayName(uid, tag)
	link(mine, addr.Alias(uid, tag)+"vm=00000001 address=10.77.16.10", "10.77.16.10/32")
	link(gateway, "", "10.77.16.1/32") // its maker died
	link(addr.TapName(1000, tag, "00000001"), addr.Alias(1000, tag)+"vm=00000001 address=10.99.0.9", "10.99.0.9/32")
	link(addr.TapName(uid, "0001", "00000001"), addr.Alias(uid, "0001")+"vm=00000001 address=10.98.0.9", "10.98.0.9/32")
	got, err := daemon.LinksOf(uid, tag)
	slices.Sort(got)
	if want := []string{gateway, mine}; err != nil || !slices.Equal(got, want) {
		t.Errorf("links %q, %v, want %q", got, err, want)
	}
	taken, err := daemon.Routes(tag)
	if err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]bool{"10.77.16.10/32": false, "10.77.16.1/32": false, "10.99.0.9/32": true, "10.98.0.9/32": true} {
		if has := slices.ContainsFunc(taken, func(p netip.Prefix) bool { return p.String() == to }); has != want {
			t.Errorf("%s is taken: %v, want %v", to, has, want)
		}
	}
}
