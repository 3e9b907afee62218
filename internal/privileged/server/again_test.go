package server_test

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"banger/internal/network/addr"
	"banger/test/netns"
)

// Whatever others take away of a network that somebody holds is made again, and the
// kernel tells of it: nobody asks. Once the connection is gone all of it stays.
func TestSetAgain(t *testing.T) {
	netns.Enter(t)
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	link := func(name string) netlink.Link {
		t.Helper()
		l, err := netlink.LinkByName(name)
		must(err)
		return l
	}
	nft := func(f func(c *nftables.Conn)) func() {
		return func() {
			t.Helper()
			c, err := nftables.New()
			must(err)
			f(c)
			must(c.Flush())
		}
	}
	a := netlink.NewLinkAttrs()
	a.Name = "up0"
	route := func() {
		t.Helper()
		must(netlink.RouteAdd(&netlink.Route{LinkIndex: link("up0").Attrs().Index, Gw: net.IPv4(192, 0, 2, 9)}))
	}
	must(netlink.LinkAdd(&netlink.Ifb{LinkAttrs: a}), netlink.AddrAdd(link("up0"), &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 0, 2, 1), Mask: net.CIDRMask(24, 32)}}), netlink.LinkSetUp(link("up0")))
	route()

	start(t, user)
	b, _ := connect(t, user)
	nat := tap(1)
	nat.NAT = true
	want(t, "set", b.set(config(nat, tap(2))), "ok")
	world := func() (w string) {
		defer func() { // what is changed while it is looked at may be gone
			if e := recover(); e != nil {
				w = fmt.Sprint(e)
			}
		}()
		return netns.World()
	}
	made, table := world(), &nftables.Table{Family: nftables.TableFamilyINet, Name: "banger_65534_beef"}
	tapName := addr.TapName(user, tag, tap(1).VM)
	for name, harm := range map[string]func(){
		"ip_forward": func() {
			for _, v := range []string{"1", "0"} {
				must(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte(v), 0))
			}
		},
		"a tap down":        func() { must(netlink.LinkSetDown(link(tapName))) },
		"the gateway gone":  func() { must(netlink.LinkDel(link(addr.GatewayName(user, tag)))) },
		"all rules flushed": nft(func(c *nftables.Conn) { c.FlushRuleset() }),
		"the table gone":    nft(func(c *nftables.Conn) { c.DelTable(table) }),
		"the table emptied": nft(func(c *nftables.Conn) { c.FlushTable(table) }),
		"a set emptied": nft(func(c *nftables.Conn) {
			s, err := c.GetSetByName(table, "taps")
			must(err)
			c.FlushSet(s)
		}),
		"the uplink renamed": func() {
			must(netlink.LinkSetDown(link("up0")), netlink.LinkSetName(link("up0"), "up1"), netlink.LinkSetName(link("up1"), "up0"), netlink.LinkSetUp(link("up0")))
			route()
		},
		"the uplink closed": func() { must(os.WriteFile("/proc/sys/net/ipv4/conf/up0/forwarding", []byte("0"), 0)) },
	} {
		harm()
		deadline := time.Now().Add(20 * time.Second)
		for world() != made {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not set again:\n%s\nwas\n%s", name, world(), made)
			}
		}
	}
	b.close()
	if got := world(); got != made {
		t.Errorf("a closed connection changed:\n%s", got)
	}
}
