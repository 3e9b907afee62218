package link_test

import (
	"testing"

	"github.com/vishvananda/netlink"

	"banger/test/netns"
)

// An uplink that is renamed is the same one: nothing has to be set again.
func TestUplinkIsRenamed(t *testing.T) {
	netns.Enter(t)
	world0 := internet(t)
	world0.greet(t)
	before := world(t)
	c := config(nat(tap(1)))
	apply(t, c)
	g := plug(t, tap(1))
	l := byName(t, "wan0")
	if err := netlink.LinkSetName(l, "other0"); err != nil {
		t.Skipf("SKIPPED: the kernel renames no link that is up (Linux 6.2 does): %v", err)
	}
	if got := g.fetch(far); got != wanAddr.String() {
		t.Errorf("with another name of the uplink the internet sees %q", got)
	}
	if again := apply(t, c); len(again) > 0 {
		t.Errorf("changed %v", again)
	}
	must(0, netlink.LinkSetName(l, "wan0"))
	closed(t, before)
}
