package link

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"banger/internal/network"
	"banger/internal/network/addr"
)

// The sets of a table. Rules name sets, never a VM.
const (
	setTaps   = "taps"   // all taps
	setOpen   = "open"   // those that are not isolated
	setLeases = "leases" // tap and the address that it may send from
)

// A ruleset is one installation's table: as it should be, or as it is.
type ruleset struct {
	table  *nftables.Table
	sets   []*nftables.Set
	elems  map[string][]nftables.SetElement // by set
	chains []*nftables.Chain
	rules  map[string][]*nftables.Rule // by chain
}

func (s *setter) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: fmt.Sprintf("banger_%d_%s", s.uid, s.tag)}
}

func (s *setter) ruleset(c network.Config) *ruleset {
	r := &ruleset{table: s.table(), elems: map[string][]nftables.SetElement{}, rules: map[string][]*nftables.Rule{}}
	lease := nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr)
	r.sets = []*nftables.Set{
		{Table: r.table, Name: setTaps, KeyType: nftables.TypeIFName},
		{Table: r.table, Name: setOpen, KeyType: nftables.TypeIFName},
		{Table: r.table, Name: setLeases, KeyType: lease, Concatenation: true},
	}
	for _, t := range c.Taps {
		key := make([]byte, unix.IFNAMSIZ)
		copy(key, addr.TapName(s.uid, s.tag, t.VM))
		r.element(setTaps, key)
		if !t.Isolated {
			r.element(setOpen, key)
		}
		r.element(setLeases, key, t.Addr.AsSlice())
	}
	// Before connections are tracked: a guest fills no table with what it made up.
	r.chain("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityRaw,
		join(in(setTaps), notIPv4, drop),
		join(in(setTaps), notLeased, drop))
	r.chain("input", nftables.ChainHookInput, nftables.ChainPriorityFilter,
		join(in(setTaps), answers, pass),
		join(in(setTaps), pingTo(s.net.Gateway.AsSlice()), pass),
		join(in(setTaps), drop))
	r.chain("forward", nftables.ChainHookForward, nftables.ChainPriorityFilter,
		join(in(setOpen), out(setOpen), pass),
		join(in(setTaps), drop),
		join(out(setTaps), drop))
	return r
}

func (r *ruleset) element(set string, key ...[]byte) {
	r.elems[set] = append(r.elems[set], nftables.SetElement{Key: slices.Concat(key...)})
}

func (r *ruleset) chain(name string, hook *nftables.ChainHook, prio *nftables.ChainPriority, rules ...[]expr.Any) {
	accept := nftables.ChainPolicyAccept
	c := &nftables.Chain{Table: r.table, Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: prio, Policy: &accept}
	r.chains = append(r.chains, c)
	for _, e := range rules {
		r.rules[name] = append(r.rules[name], &nftables.Rule{Table: r.table, Chain: c, Exprs: e})
	}
}

// setRules makes the table what it should be: all of it anew in one transaction,
// or nothing. No packet sees it half done.
func (s *setter) setRules(c network.Config) {
	nft := list(s, "rules", func() (*nftables.Conn, error) { return nftables.New() })
	want := s.ruleset(c)
	same := list(s, "rules", func() (bool, error) {
		got, err := read(nft, want.table)
		return err == nil && got != nil && got.String() == want.String(), err
	})
	s.do(!same, "set rules", func() error {
		nft.AddTable(want.table) // or the deletion fails where there is none
		nft.DelTable(want.table)
		nft.AddTable(want.table)
		for _, set := range want.sets {
			if err := nft.AddSet(set, nil); err != nil {
				return err
			}
			for some := range slices.Chunk(want.elems[set.Name], 100) { // an attribute has at most 64 KiB
				if err := nft.SetAddElements(set, some); err != nil {
					return err
				}
			}
		}
		for _, c := range want.chains {
			nft.AddChain(c)
			for _, rule := range want.rules[c.Name] {
				nft.AddRule(rule)
			}
		}
		return nft.Flush()
	})
}

// removeRules removes the table if there is one.
func (s *setter) removeRules() {
	nft := list(s, "rules", func() (*nftables.Conn, error) { return nftables.New() })
	there := list(s, "rules", func() (bool, error) { t, err := find(nft, s.table()); return t != nil, err })
	s.do(there, "delete rules", func() error { nft.DelTable(s.table()); return nft.Flush() })
}

func find(nft *nftables.Conn, table *nftables.Table) (*nftables.Table, error) {
	tables, err := nft.ListTablesOfFamily(table.Family)
	if n := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == table.Name }); n >= 0 {
		return tables[n], err
	}
	return nil, err
}

// read returns the table as it is, nil if there is none.
func read(nft *nftables.Conn, table *nftables.Table) (*ruleset, error) {
	t, err := find(nft, table)
	if err != nil || t == nil {
		return nil, err
	}
	r := &ruleset{table: t, elems: map[string][]nftables.SetElement{}, rules: map[string][]*nftables.Rule{}}
	if r.sets, err = nft.GetSets(t); err != nil {
		return nil, err
	}
	for _, s := range r.sets {
		if r.elems[s.Name], err = nft.GetSetElements(s); err != nil {
			return nil, err
		}
	}
	all, err := nft.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.Table.Name != t.Name {
			continue
		}
		r.chains = append(r.chains, c)
		if r.rules[c.Name], err = nft.GetRules(t, c); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// String is all that counts of a ruleset, in an order that is always the same.
// Two with the same String do the same.
func (r *ruleset) String() string {
	lines := []string{fmt.Sprintf("table %s flags %d", r.table.Name, r.table.Flags)}
	for _, s := range r.sets {
		lines = append(lines, fmt.Sprintf("set %s %s", s.Name, s.KeyType.Name))
		for _, e := range r.elems[s.Name] {
			lines = append(lines, fmt.Sprintf("element %s %x", s.Name, e.Key))
		}
	}
	for _, c := range r.chains {
		b := strings.Builder{}
		if c.Hooknum != nil && c.Priority != nil && c.Policy != nil {
			fmt.Fprintf(&b, "chain %s %s %d %d %d", c.Name, c.Type, *c.Hooknum, *c.Priority, *c.Policy)
		}
		for _, rule := range r.rules[c.Name] {
			b.WriteString(" rule")
			for _, e := range rule.Exprs {
				// As the kernel would be told it.
				data, err := expr.Marshal(byte(r.table.Family), e)
				fmt.Fprintf(&b, " %x %v", data, err)
			}
		}
		lines = append(lines, b.String())
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
