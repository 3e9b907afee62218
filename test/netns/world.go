package netns

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// World prints the thread's network namespace: links, their sysctls, routes,
// neighbours that somebody set and nftables; what they are, and not which
// numbers the kernel gave them. It panics if it cannot.
func World() string {
	var b strings.Builder
	names := map[int]string{}
	links := must(netlink.LinkList())
	slices.SortFunc(links, func(x, y netlink.Link) int { return strings.Compare(x.Attrs().Name, y.Attrs().Name) })
	for _, l := range links {
		a := l.Attrs()
		names[a.Index] = a.Name
		fmt.Fprintf(&b, "link %s %s alias=%q mac=%s up=%v", a.Name, l.Type(), a.Alias, a.HardwareAddr, a.Flags&net.FlagUp != 0)
		for _, n := range a.AltNames {
			fmt.Fprintf(&b, " altname=%s", n)
		}
		if tun, ok := l.(*netlink.Tuntap); ok {
			fmt.Fprintf(&b, " owner=%d persist=%v mode=%d", tun.Owner, !tun.NonPersist, tun.Mode)
		}
		for _, a := range must(netlink.AddrList(l, unix.AF_UNSPEC)) {
			fmt.Fprintf(&b, " %s", a.IPNet)
		}
		b.WriteString("\n")
	}
	for _, l := range slices.Concat([]string{"all", "default"}, slices.Collect(func(yield func(string) bool) {
		for _, l := range links {
			if !yield(l.Attrs().Name) {
				return
			}
		}
	})) {
		fmt.Fprintf(&b, "sysctl %s", l)
		for _, k := range []string{"ipv4 forwarding", "ipv4 rp_filter", "ipv4 accept_local", "ipv4 route_localnet", "ipv4 accept_redirects", "ipv4 accept_source_route", "ipv4 proxy_arp", "ipv6 disable_ipv6", "ipv6 accept_ra"} {
			family, key, _ := strings.Cut(k, " ")
			v, _ := os.ReadFile("/proc/sys/net/" + family + "/conf/" + l + "/" + key)
			fmt.Fprintf(&b, " %s=%s", key, bytes.TrimSpace(v))
		}
		b.WriteString("\n")
	}
	var lines []string
	for _, r := range must(netlink.RouteList(nil, unix.AF_INET)) {
		lines = append(lines, fmt.Sprintf("route %s dev %s src %s scope %s via %s\n", r.Dst, names[r.LinkIndex], r.Src, r.Scope, r.Gw))
	}
	for _, n := range must(netlink.NeighList(0, unix.AF_UNSPEC)) {
		if n.State&unix.NUD_PERMANENT != 0 { // the others come and go by themselves
			lines = append(lines, fmt.Sprintf("neighbour %s dev %s mac %s\n", n.IP, names[n.LinkIndex], n.HardwareAddr))
		}
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, ""))
	b.WriteString(Rules(false))
	return b.String()
}

// Rules prints all tables, with the kernel's handles if it is asked for.
func Rules(handles bool) string {
	c := must(nftables.New())
	var b strings.Builder
	for _, table := range must(c.ListTables()) {
		fmt.Fprintf(&b, "table %d %s flags=%d\n", table.Family, table.Name, table.Flags)
		for _, ch := range must(c.ListChainsOfTableFamily(table.Family)) {
			if ch.Table.Name != table.Name {
				continue
			}
			fmt.Fprintf(&b, " chain %s", ch.Name)
			if ch.Hooknum != nil { // else others jump to it
				fmt.Fprintf(&b, " hook %d priority %d policy %d", *ch.Hooknum, *ch.Priority, *ch.Policy)
			}
			b.WriteString("\n")
			for _, r := range must(c.GetRules(table, ch)) {
				b.WriteString("  rule")
				if handles {
					fmt.Fprintf(&b, " handle=%d", r.Handle)
				}
				for _, e := range r.Exprs {
					if d, ok := e.(*expr.Dynset); ok { // what it keeps is behind pointers
						fmt.Fprintf(&b, " %T %s", d, d.SetName)
						for _, e := range d.Exprs {
							fmt.Fprintf(&b, " %T%+v", e, e)
						}
						continue
					}
					fmt.Fprintf(&b, " %T%+v", e, e)
				}
				b.WriteString("\n")
			}
		}
		for _, s := range must(c.GetSets(table)) {
			if s.Dynamic { // whom it has heard of says the traffic
				fmt.Fprintf(&b, " set %s %s dynamic\n", s.Name, s.KeyType.Name)
				continue
			}
			var keys []string
			for _, e := range must(c.GetSetElements(s)) {
				key := fmt.Sprintf("%q", e.Key)
				if len(e.Val) > 0 {
					key += fmt.Sprintf(":%q", e.Val)
				}
				keys = append(keys, key)
			}
			slices.Sort(keys)
			fmt.Fprintf(&b, " set %s %s %v\n", s.Name, s.KeyType.Name, keys)
		}
	}
	return b.String()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
