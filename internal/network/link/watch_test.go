package link_test

import (
	"os"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/network/addr"
	"banger/internal/network/link"
	"banger/test/netns"
)

// Each loss is noticed, and a Set that changes nothing is none: or the two
// would call each other for ever.
func TestWatch(t *testing.T) {
	netns.Enter(t)
	lan(t)
	c := config(nat(tap(1)))
	n := must(nftables.New())
	accept := nftables.ChainPolicyAccept
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: "filter"}
	input := &nftables.Chain{Table: table, Name: "input", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter, Policy: &accept}
	for name, lose := range map[string]func(){
		"ip_forward": func() { must(0, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)) },
		"rp_filter": func() {
			must(0, os.WriteFile("/proc/sys/net/ipv4/conf/"+tapName(1)+"/rp_filter", []byte("0"), 0))
		},
		"tap down": func() { must(0, netlink.LinkSetDown(byName(t, tapName(1)))) },
		"tap gone": func() { must(0, netlink.LinkDel(byName(t, tapName(1)))) },
		"gateway gone": func() {
			must(0, netlink.LinkDel(byName(t, addr.GatewayName(uid, tag))))
		},
		"address gone": func() {
			l := byName(t, addr.GatewayName(uid, tag))
			a := must(netlink.AddrList(l, unix.AF_INET))
			must(0, netlink.AddrDel(l, &a[0]))
		},
		"route gone": func() {
			for _, r := range must(netlink.RouteList(byName(t, tapName(1)), unix.AF_INET)) {
				must(0, netlink.RouteDel(&r))
			}
		},
		"rules flushed": func() { flushRules(t) },
		"another way out": func() {
			must(0, netlink.RouteAdd(&netlink.Route{LinkIndex: byName(t, "lan0").Attrs().Index, Gw: hostAddr.Next().AsSlice()}))
		},
		"a rule in a firewall's chain": func() {
			n.AddRule(&nftables.Rule{Table: input.Table, Chain: input, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}})
			must(0, n.Flush())
		},
		"a firewall's policy": func() {
			drop := nftables.ChainPolicyDrop
			n.AddChain(&nftables.Chain{Table: input.Table, Name: "input", Type: input.Type, Hooknum: input.Hooknum, Priority: input.Priority, Policy: &drop})
			must(0, n.Flush())
		},
		"Docker comes": func() { firewall(t, "DOCKER-USER") },
	} {
		n.AddTable(table)
		n.AddChain(input)
		must(0, n.Flush())
		apply(t, c)
		lost := make(chan struct{}, 100)
		w, err := link.Watch(func() {
			select {
			case lost <- struct{}{}:
			default:
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if apply(t, c); len(lost) > 0 {
			t.Errorf("%s: a Set without a change is taken for a loss", name)
		}
		lose()
		select {
		case <-lost:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: not noticed", name)
		}
		w.Close()
	}
}
