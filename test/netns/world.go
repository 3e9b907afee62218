package netns

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// World prints the thread's network namespace: links, their sysctls, routes,
// neighbours that somebody set and nftables; what they are, and not which
// numbers the kernel gave them. It panics if it cannot.
func World() string {
	return must(steady(world))
}

func world() (string, error) {
	var b strings.Builder
	names := map[int]string{}
	links, err := netlink.LinkList()
	if err != nil {
		return "", err
	}
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
		addresses, err := netlink.AddrList(l, unix.AF_UNSPEC)
		if err != nil {
			return "", err
		}
		for _, a := range addresses {
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
	routes, err := netlink.RouteList(nil, unix.AF_INET)
	if err != nil {
		return "", err
	}
	for _, r := range routes {
		lines = append(lines, fmt.Sprintf("route %s dev %s src %s scope %s via %s\n", r.Dst, names[r.LinkIndex], r.Src, r.Scope, r.Gw))
	}
	neighbours, err := netlink.NeighList(0, unix.AF_UNSPEC)
	if err != nil {
		return "", err
	}
	for _, n := range neighbours {
		if n.State&unix.NUD_PERMANENT != 0 { // the others come and go by themselves
			lines = append(lines, fmt.Sprintf("neighbour %s dev %s mac %s\n", n.IP, names[n.LinkIndex], n.HardwareAddr))
		}
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, ""))
	rules, err := rules(false)
	return b.String() + rules, err
}

// Rules prints all tables, with the kernel's handles if it is asked for. It
// panics if it cannot.
func Rules(handles bool) string {
	return must(steady(func() (string, error) { return rules(handles) }))
}

// steady reads again for up to 10 s while it fails: a world is read piece by
// piece, and banger-root may take away what was about to be listed. The library
// does not pass on which error that was (nftables 0.3.0, GetRules).
func steady(read func() (string, error)) (string, error) {
	for deadline := time.Now().Add(10 * time.Second); ; {
		if s, err := read(); err == nil || time.Now().After(deadline) {
			return s, err
		}
	}
}

func rules(handles bool) (string, error) {
	c, err := nftables.New()
	if err != nil {
		return "", err
	}
	tables, err := c.ListTables()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, table := range tables {
		fmt.Fprintf(&b, "table %d %s flags=%d\n", table.Family, table.Name, table.Flags)
		if err := errors.Join(chains(&b, c, table, handles), sets(&b, c, table)); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

func chains(b *strings.Builder, c *nftables.Conn, table *nftables.Table, handles bool) error {
	all, err := c.ListChainsOfTableFamily(table.Family)
	if err != nil {
		return err
	}
	for _, ch := range all {
		if ch.Table.Name != table.Name {
			continue
		}
		fmt.Fprintf(b, " chain %s", ch.Name)
		if ch.Hooknum != nil { // else others jump to it
			fmt.Fprintf(b, " hook %d priority %d policy %d", *ch.Hooknum, *ch.Priority, *ch.Policy)
		}
		b.WriteString("\n")
		rules, err := c.GetRules(table, ch)
		if err != nil {
			return err
		}
		for _, r := range rules {
			b.WriteString("  rule")
			if handles {
				fmt.Fprintf(b, " handle=%d", r.Handle)
			}
			for _, e := range r.Exprs {
				if d, ok := e.(*expr.Dynset); ok { // what it keeps is behind pointers
					fmt.Fprintf(b, " %T %s", d, d.SetName)
					for _, e := range d.Exprs {
						fmt.Fprintf(b, " %T%+v", e, e)
					}
					continue
				}
				fmt.Fprintf(b, " %T%+v", e, e)
			}
			b.WriteString("\n")
		}
	}
	return nil
}

func sets(b *strings.Builder, c *nftables.Conn, table *nftables.Table) error {
	all, err := c.GetSets(table)
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.Dynamic { // whom it has heard of says the traffic
			fmt.Fprintf(b, " set %s %s dynamic\n", s.Name, s.KeyType.Name)
			continue
		}
		elements, err := c.GetSetElements(s)
		if err != nil {
			return err
		}
		var keys []string
		for _, e := range elements {
			key := fmt.Sprintf("%q", e.Key)
			if len(e.Val) > 0 {
				key += fmt.Sprintf(":%q", e.Val)
			}
			keys = append(keys, key)
		}
		slices.Sort(keys)
		fmt.Fprintf(b, " set %s %s %v\n", s.Name, s.KeyType.Name, keys)
	}
	return nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
