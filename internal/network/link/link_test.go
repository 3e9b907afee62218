package link_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
	"banger/internal/network/addr"
	"banger/internal/network/link"
	"banger/test/netns"
)

// All that a Config asks for is there, as the kernel itself tells it.
func TestSet(t *testing.T) {
	netns.Enter(t)
	apply(t, config(tap(1), isolated(tap(2))))
	got := world(t)
	for _, want := range []string{
		fmt.Sprintf(`alias="banger uid=65534 tag=beef gateway subnet=10.77.16.0/20" mac=%s up=true 10.77.16.1/32`, addr.GatewayMAC(uid, tag)),
		fmt.Sprintf(`link %s tuntap alias="banger uid=65534 tag=beef vm=00000001 address=10.77.16.10" mac=%s up=true owner=65534 persist=true mode=2`+"\n", tapName(1), addr.TapMAC(uid, tag, tap(1).VM)),
		fmt.Sprintf("sysctl %s forwarding=1 rp_filter=1 accept_local=0 route_localnet=0 accept_redirects=0 accept_source_route=0 proxy_arp=0 disable_ipv6=1 accept_ra=0\n", tapName(1)),
		"sysctl all forwarding=0 ",
		"sysctl default forwarding=0 ",
		fmt.Sprintf("route 10.77.16.10/32 dev %s src 10.77.16.1 scope link", tapName(1)),
		fmt.Sprintf("route 10.77.16.11/32 dev %s src 10.77.16.1 scope link", tapName(2)),
		"table 1 banger_65534_beef flags=0",
		fmt.Sprintf(`set open ifname ["%s\x00"]`, tapName(1)),
		`set leases ifname . ipv4_addr ["`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// Root's taps belong to the VMs' own users: Firecracker opens its tap itself. One
// that is root's own, as they were once, is left while its VM runs.
func TestTapsOfRoot(t *testing.T) {
	netns.Enter(t)
	set := func() []string {
		changes, err := link.New(0).Apply(config(tap(1)))
		if err != nil {
			t.Fatal(err)
		}
		return changes
	}
	set()
	c := config(tap(1))
	want := must(addr.UID(c.Tag, c.Subnet, c.Taps[0].Addr))
	name := addr.TapName(0, tag, tap(1).VM)
	if got := byName(t, name).(*netlink.Tuntap).Owner; got != want || got < banger.FirstOwner {
		t.Errorf("owner %d, want %d", got, want)
	}
	chown(t, name, 0)
	if changes := set(); len(changes) > 0 {
		t.Errorf("a tap of root's own: changed %v", changes)
	}
	chown(t, name, 1)
	if changes := set(); len(changes) == 0 || byName(t, name).(*netlink.Tuntap).Owner != want {
		t.Errorf("another's tap: changed %v", changes)
	}
}

// With no taps the host is as it was.
func TestNothingIsLeft(t *testing.T) {
	netns.Enter(t)
	before := world(t)
	for range 3 {
		apply(t, config(tap(1), tap(2), isolated(tap(3))))
		apply(t, config())
		if after := world(t); after != before {
			t.Fatalf("left:\n%s\nbefore:\n%s", after, before)
		}
	}
	if c := apply(t, config()); len(c) > 0 {
		t.Errorf("nothing was there, and changed %v", c)
	}
}

// The same Config again changes nothing, not even a handle; one VM more, or one
// that is isolated from now on, leaves the rules and the other taps alone.
func TestOnlyWhatDiffers(t *testing.T) {
	netns.Enter(t)
	apply(t, config(tap(1), tap(2)))
	before, index := rules(t, true), byName(t, tapName(1)).Attrs().Index
	if c := apply(t, config(tap(1), tap(2))); len(c) > 0 || rules(t, true) != before {
		t.Errorf("changed %v\n%s\n%s", c, before, rules(t, true))
	}
	handles := func(s string) (only []string) {
		for _, l := range strings.Split(s, "\n") {
			if strings.Contains(l, "handle=") {
				only = append(only, l)
			}
		}
		return only
	}
	for _, c := range []network.Config{
		config(tap(1), tap(2), tap(3)), config(tap(1), isolated(tap(2)), tap(3)), config(tap(1), tap(2)),
	} {
		if changes := apply(t, c); len(changes) == 0 {
			t.Errorf("%v changed nothing", c)
		}
		if got := handles(rules(t, true)); fmt.Sprint(got) != fmt.Sprint(handles(before)) || len(got) == 0 {
			t.Errorf("rules were made anew:\n%s\n%s", got, handles(before))
		}
	}
	if rules(t, true) != before || byName(t, tapName(1)).Attrs().Index != index {
		t.Errorf("there and back:\n%s\n%s", before, rules(t, true))
	}
	var many []network.Tap
	for n := range 120 { // more than one message of elements
		many = append(many, tap(n))
	}
	apply(t, config(many...))
	if c := apply(t, config(many...)); len(c) > 0 {
		t.Errorf("120 taps: changed %v", c)
	}
	apply(t, config())
}

// Whatever others did to it, the next Set makes it what it was.
func TestMend(t *testing.T) {
	sysctl := func(key, value string) func(*testing.T) {
		return func(t *testing.T) {
			if err := os.WriteFile("/proc/sys/net/"+strings.ReplaceAll(key, "TAP", tapName(1)), []byte(value), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: "banger_65534_beef"}
	nft := func(f func(c *nftables.Conn)) func(*testing.T) {
		return func(t *testing.T) {
			c := must(nftables.New())
			f(c)
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	nl := func(f func(l netlink.Link) error) func(*testing.T) {
		return func(t *testing.T) {
			if err := f(byName(t, tapName(1))); err != nil {
				t.Fatal(err)
			}
		}
	}
	gw := func(t *testing.T) netlink.Link { return byName(t, addr.GatewayName(uid, tag)) }
	for name, damage := range map[string]func(*testing.T){
		"ip_forward":      func(t *testing.T) { sysctl("ipv4/ip_forward", "1")(t); sysctl("ipv4/ip_forward", "0")(t) },
		"rp_filter":       sysctl("ipv4/conf/TAP/rp_filter", "0"),
		"accept_local":    sysctl("ipv4/conf/TAP/accept_local", "1"),
		"route_localnet":  sysctl("ipv4/conf/TAP/route_localnet", "1"),
		"source routes":   sysctl("ipv4/conf/TAP/accept_source_route", "1"),
		"ipv6":            sysctl("ipv6/conf/TAP/disable_ipv6", "0"),
		"tap down":        nl(func(l netlink.Link) error { return netlink.LinkSetDown(l) }),
		"tap gone":        nl(func(l netlink.Link) error { return netlink.LinkDel(l) }),
		"tap's MAC":       nl(func(l netlink.Link) error { return netlink.LinkSetHardwareAddr(l, []byte{2, 0, 0, 0, 0, 1}) }),
		"tap's owner":     func(t *testing.T) { chown(t, tapName(1), 1) },
		"gateway gone":    func(t *testing.T) { netlink.LinkDel(gw(t)) },
		"gateway down":    func(t *testing.T) { netlink.LinkSetDown(gw(t)) },
		"gateway's alias": func(t *testing.T) { netlink.LinkSetAlias(gw(t), "") },
		"gateway's address": func(t *testing.T) {
			a := must(netlink.AddrList(gw(t), unix.AF_INET))
			must(0, netlink.AddrDel(gw(t), &a[0]))
			must(0, netlink.AddrAdd(gw(t), must(netlink.ParseAddr("10.99.0.1/24"))))
		},
		"route gone": func(t *testing.T) {
			for _, r := range must(netlink.RouteList(byName(t, tapName(1)), unix.AF_INET)) {
				must(0, netlink.RouteDel(&r))
			}
		},
		"ruleset flushed": nft(func(c *nftables.Conn) { c.FlushRuleset() }),
		"rules flushed":   nft(func(c *nftables.Conn) { c.FlushTable(table) }),
		"set emptied":     nft(func(c *nftables.Conn) { c.FlushSet(&nftables.Set{Table: table, Name: "taps"}) }),
		"element added": nft(func(c *nftables.Conn) {
			k := make([]byte, 16)
			copy(k, "eth0")
			s := must(c.GetSetByName(table, "open"))
			must(0, c.SetAddElements(s, []nftables.SetElement{{Key: k}}))
		}),
		"rule put first": nft(func(c *nftables.Conn) {
			c.InsertRule(&nftables.Rule{Table: table, Chain: &nftables.Chain{Name: "input"}, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}})
		}),
		"chain added": nft(func(c *nftables.Conn) {
			p := nftables.ChainPolicyDrop
			c.AddChain(&nftables.Chain{Table: table, Name: "more", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter, Policy: &p})
		}),
	} {
		t.Run(name, func(t *testing.T) {
			netns.Enter(t)
			c := config(tap(1), isolated(tap(2)))
			apply(t, c)
			whole := world(t)
			damage(t)
			if world(t) == whole {
				t.Fatal("no damage was done")
			}
			changes := apply(t, c)
			if got := world(t); got != whole {
				t.Errorf("changed %v, and left\n%s\nwhole:\n%s", changes, got, whole)
			}
			if again := apply(t, c); len(again) > 0 {
				t.Errorf("changed %v, then %v", changes, again)
			}
		})
	}
}

// chown gives a tap another owner, as root can.
func chown(t *testing.T, name string, owner int) {
	fd := must(unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0))
	defer unix.Close(fd)
	r := must(unix.NewIfreq(name))
	r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	must(0, unix.IoctlIfreq(fd, unix.TUNSETIFF, r))
	must(0, unix.IoctlSetInt(fd, unix.TUNSETOWNER, owner))
}

// What carries another uid or another tag, or nothing of banger's, is neither
// changed nor taken over, whatever its name is.
func TestOthersAreLeftAlone(t *testing.T) {
	netns.Enter(t)
	others := config(tap(1), tap(5))
	others.Subnet = netip.MustParsePrefix("10.88.0.0/20")
	for n := range others.Taps {
		others.Taps[n].Addr = netip.AddrFrom4([4]byte{10, 88, 0, byte(10 + n)})
	}
	if _, err := link.New(1).Apply(others); err != nil { // another user
		t.Fatal(err)
	}
	second := others
	second.Tag, second.Subnet, second.Taps = "0001", netip.MustParsePrefix("10.99.0.0/24"), []network.Tap{{VM: tap(1).VM, Addr: netip.MustParseAddr("10.99.0.9")}}
	apply(t, second) // the user's own second installation
	alone := world(t)
	apply(t, config(tap(1), tap(2)))
	apply(t, config(tap(2)))
	apply(t, config())
	if got := world(t); got != alone {
		t.Errorf("others' were changed:\n%s\nwere\n%s", got, alone)
	}

	for _, name := range []string{tapName(1), addr.GatewayName(uid, tag)} {
		a := netlink.NewLinkAttrs()
		a.Name = name
		l := &netlink.Ifb{LinkAttrs: a}
		must(0, netlink.LinkAdd(l))
		must(0, netlink.LinkSetAlias(l, "banger uid=1 tag=beef vm=00000001 address=10.77.16.10"))
		before := byName(t, name).Attrs()
		_, err := link.New(uid).Apply(config(tap(1)))
		if e := banger.AsError(err); e == nil || e.Code != banger.HostUnready || !strings.Contains(e.Remedy, name) {
			t.Errorf("a link called %s: %v", name, err)
		}
		if after := byName(t, name).Attrs(); after.Index != before.Index || after.Alias != before.Alias || after.Flags != before.Flags {
			t.Errorf("%s was changed: %+v", name, after)
		}
		apply(t, config())
		must(0, netlink.LinkDel(l))
	}
	if got := world(t); got != alone {
		t.Errorf("after refusals:\n%s\nwere\n%s", got, alone)
	}
}

// A VM whose address changed while it was stopped gets its tap anew.
func TestMoved(t *testing.T) {
	netns.Enter(t)
	apply(t, config(tap(1)))
	moved := config(tap(1))
	moved.Subnet = netip.MustParsePrefix("10.99.0.0/24")
	moved.Taps[0].Addr = netip.MustParseAddr("10.99.0.7")
	apply(t, moved)
	got := world(t)
	if strings.Contains(got, "10.77.") || !strings.Contains(got, "10.99.0.1/32") || !strings.Contains(got, "route 10.99.0.7/32") {
		t.Errorf("after the move:\n%s", got)
	}
}

// Taps that are there already are no way round the checks of the subnet: another
// one would bring its gateway's address, such as that of the LAN's router.
func TestMovedIntoTheHosts(t *testing.T) {
	netns.Enter(t)
	lan(t)
	c := network.Config{Tag: tag, Subnet: netip.MustParsePrefix("10.77.200.0/28"), Taps: []network.Tap{{VM: tap(1).VM, Addr: netip.MustParseAddr("10.77.200.5")}}}
	apply(t, c)
	must(0, netlink.RouteAdd(&netlink.Route{LinkIndex: byName(t, "lan0").Attrs().Index, Dst: must(netlink.ParseIPNet("10.77.0.0/24")), Scope: netlink.SCOPE_LINK}))
	before := world(t)
	c.Subnet = netip.MustParsePrefix("10.77.0.0/16")
	changes, err := link.New(uid).Apply(c)
	if e := banger.AsError(err); e == nil || e.Code != banger.WrongState || len(changes) > 0 {
		t.Errorf("changed %v: %v", changes, err)
	}
	if got := world(t); got != before {
		t.Errorf("changed to\n%s\nfrom\n%s", got, before)
	}
	c.Taps = nil
	apply(t, c) // taking away is never refused
	if got := world(t); strings.Contains(got, "banger") {
		t.Errorf("left:\n%s", got)
	}
}

// A part of another installation's subnet is not free, even where no VM of it runs.
func TestWithinOthers(t *testing.T) {
	netns.Enter(t)
	apply(t, config(tap(1)))
	before := world(t)
	for _, uid := range []uint32{uid, 1} {
		for _, p := range []string{"10.77.24.0/24", "10.77.0.0/16"} {
			c := network.Config{Tag: "0001", Subnet: netip.MustParsePrefix(p), Taps: []network.Tap{{VM: tap(1).VM, Addr: netip.MustParseAddr("10.77.24.9")}}}
			if p == "10.77.0.0/16" {
				c.Taps[0].Addr = netip.MustParseAddr("10.77.99.9")
			}
			_, err := link.New(uid).Apply(c)
			if e := banger.AsError(err); e == nil || e.Code != banger.WrongState || !strings.Contains(e.Message, "10.77.16.0/20") {
				t.Errorf("uid %d, %s: %v", uid, p, err)
			}
		}
	}
	if got := world(t); got != before {
		t.Errorf("changed to\n%s\nfrom\n%s", got, before)
	}
}

// Nobody answers the host in a cloud's place.
func TestNotMetadata(t *testing.T) {
	netns.Enter(t)
	c := network.Config{Tag: tag, Subnet: netip.MustParsePrefix("100.100.100.192/28"), Taps: []network.Tap{{VM: tap(1).VM, Addr: netip.MustParseAddr("100.100.100.200")}}}
	changes, err := link.New(uid).Apply(c)
	if e := banger.AsError(err); e == nil || e.Code != banger.WrongState || len(changes) > 0 {
		t.Errorf("changed %v: %v", changes, err)
	}
}

// The number of taps is one uid's, whatever tags it uses.
func TestTapsOfAllTags(t *testing.T) {
	netns.Enter(t)
	installation := func(tag string, third byte, taps int) network.Config {
		c := network.Config{Tag: tag, Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 66, third, 0}), 21)}
		for n := range taps {
			c.Taps = append(c.Taps, network.Tap{VM: tap(n).VM, Addr: netip.AddrFrom4([4]byte{10, 66, third + byte((n+9)>>8), byte(n + 9)})})
		}
		return c
	}
	apply(t, installation("0001", 0, 3))
	changes, err := link.New(uid).Apply(installation("0002", 8, 1022))
	if e := banger.AsError(err); e == nil || e.Code != banger.WrongState || !strings.Contains(e.Message, "1025 taps") || len(changes) > 0 {
		t.Errorf("changed %d: %v", len(changes), err)
	}
	if _, err := link.New(1).Apply(installation("0002", 8, 2)); err != nil {
		t.Errorf("another uid's: %v", err)
	}
}

// What is in use on the host is refused before anything is touched. What is
// there already stays, can be mended and can be removed.
func TestRefused(t *testing.T) {
	resolv := func(line string) func(*testing.T) string {
		return func(t *testing.T) string {
			p := filepath.Join(t.TempDir(), "resolv.conf")
			must(0, os.WriteFile(p, []byte("# none\nsearch x\n"+line+"\n"), 0o600))
			return p
		}
	}
	route := func(f func(index int) netlink.Route) func(*testing.T) string {
		return func(t *testing.T) string {
			a := netlink.NewLinkAttrs()
			a.Name = "vpn0"
			l := &netlink.Ifb{LinkAttrs: a}
			must(0, netlink.LinkAdd(l))
			must(0, netlink.LinkSetUp(l))
			r := f(l.Attrs().Index)
			must(0, netlink.RouteAdd(&r))
			return ""
		}
	}
	to := func(p string) func(int) netlink.Route {
		return func(i int) netlink.Route {
			return netlink.Route{LinkIndex: i, Dst: must(netlink.ParseIPNet(p)), Scope: netlink.SCOPE_LINK}
		}
	}
	for name, c := range map[string]struct {
		host func(*testing.T) string
		says string // "" if it is no obstacle
	}{
		"wider route":      {route(to("10.0.0.0/8")), "10.0.0.0/8"},
		"narrower route":   {route(to("10.77.31.0/30")), "10.77.31.0/30"},
		"exact route":      {route(to("10.77.16.0/20")), "10.77.16.0/20"},
		"beside":           {route(to("10.77.32.0/20")), ""},
		"default":          {route(to("0.0.0.0/0")), ""},
		"half of default":  {route(to("0.0.0.0/1")), ""},
		"in another table": {route(func(i int) netlink.Route { r := to("10.77.17.0/24")(i); r.Table = 51820; return r }), "51820"},
		"blackhole": {route(func(int) netlink.Route {
			return netlink.Route{Dst: must(netlink.ParseIPNet("10.77.18.0/24")), Type: unix.RTN_BLACKHOLE}
		}), "10.77.18.0/24"},
		"default gateway": {route(func(i int) netlink.Route {
			return netlink.Route{LinkIndex: i, Gw: tap(3).Addr.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
		}), "default gateway 10.77.16.12"},
		"resolver":         {resolv("nameserver 10.77.30.1"), "resolver 10.77.30.1"},
		"another resolver": {resolv("nameserver 10.77.32.1\nnameserver ::1\nnameserver x"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			netns.Enter(t)
			apply(t, config(tap(1)))
			resolv := c.host(t)
			before := world(t)
			r := link.New(uid, resolv, "/nonexistent/resolv.conf")
			changes, err := r.Apply(config(tap(1), tap(2)))
			e := banger.AsError(err)
			switch {
			case c.says == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.says == "":
			case e == nil || e.Code != banger.WrongState || !strings.Contains(e.Message, c.says) || e.Remedy == "":
				t.Errorf("refused for another reason: %v", err)
			case len(changes) > 0 || world(t) != before:
				t.Errorf("refused, and changed %v:\n%s\n%s", changes, before, world(t))
			}
			must(0, netlink.LinkSetDown(byName(t, tapName(1))))
			if _, err := r.Apply(config(tap(1))); err != nil {
				t.Errorf("mend what is there: %v", err)
			}
			if _, err := r.Apply(config()); err != nil {
				t.Errorf("remove: %v", err)
			}
			if w := world(t); strings.Contains(w, "banger") {
				t.Errorf("left:\n%s", w)
			}
		})
	}
}

func TestProbe(t *testing.T) {
	netns.Enter(t)
	before := world(t)
	if err := link.New(uid).Probe(t.Context()); err != nil {
		t.Error(err)
	}
	if world(t) != before {
		t.Error("a probe changed something")
	}
}

// Where sysctls cannot be written, as in a container, that is said before anything is
// made.
func TestReadOnlySysctls(t *testing.T) {
	netns.Enter(t)
	if err := link.New(uid).Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(0, unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""))
	must(0, unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	if err := link.New(uid).Probe(t.Context()); banger.CodeOf(err) != banger.HostUnready || banger.AsError(err).Remedy == "" {
		t.Errorf("err = %v", err)
	}
}
