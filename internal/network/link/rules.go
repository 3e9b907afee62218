package link

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"banger/internal/network"
	"banger/internal/network/addr"
)

// The sets of a table. Rules name sets, never a VM: a VM more is an element
// more, and the rules stay.
const (
	setTaps   = "taps"   // all taps
	setOpen   = "open"   // those that are not isolated
	setLeases = "leases" // tap and the address that it may send from
)

// A ruleset is one installation's table, as it should be.
type ruleset struct {
	table  *nftables.Table
	sets   []*nftables.Set
	elems  map[string][][]byte // by set: keys
	chains []*nftables.Chain
	rules  map[string][][]expr.Any // by chain
}

func (s *setter) ruleset(c network.Config) ruleset {
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: fmt.Sprintf("banger_%d_%s", s.uid, s.tag)}
	r := ruleset{
		table: t,
		sets: []*nftables.Set{
			{Table: t, Name: setTaps, KeyType: nftables.TypeIFName},
			{Table: t, Name: setOpen, KeyType: nftables.TypeIFName},
			{Table: t, Name: setLeases, KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr), Concatenation: true},
		},
		elems: map[string][][]byte{},
		rules: map[string][][]expr.Any{},
	}
	for _, tap := range c.Taps {
		key := make([]byte, unix.IFNAMSIZ)
		copy(key, addr.TapName(s.uid, s.tag, tap.VM))
		r.elems[setTaps] = append(r.elems[setTaps], key)
		if !tap.Isolated {
			r.elems[setOpen] = append(r.elems[setOpen], key)
		}
		r.elems[setLeases] = append(r.elems[setLeases], append(slices.Clone(key), tap.Addr.AsSlice()...))
	}
	accept := nftables.ChainPolicyAccept
	chain := func(name string, hook *nftables.ChainHook, prio *nftables.ChainPriority, rules ...[]expr.Any) {
		r.chains = append(r.chains, &nftables.Chain{Table: t, Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: prio, Policy: &accept})
		r.rules[name] = rules
	}
	// Before connections are tracked: a guest fills no table with what it made up.
	chain("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityRaw,
		join(in(setTaps), notIPv4, drop),
		join(in(setTaps), notLeased, drop))
	chain("input", nftables.ChainHookInput, nftables.ChainPriorityFilter,
		join(in(setTaps), answers, pass),
		join(in(setTaps), pingTo(s.net.Gateway.AsSlice()), pass),
		join(in(setTaps), drop))
	chain("forward", nftables.ChainHookForward, nftables.ChainPriorityFilter,
		join(in(setOpen), out(setOpen), pass),
		join(in(setTaps), drop),
		join(out(setTaps), drop))
	return r
}

// rules makes the table what it should be, in one transaction.
func (s *setter) rules(c network.Config) error {
	nft, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open an nftables socket: %w", err)
	}
	want := s.ruleset(c)
	var same bool
	if _, err := list(s, "rules", func() (_ []struct{}, err error) { same, err = want.same(nft); return nil, err }); err != nil {
		return err
	}
	if !same {
		want.replace(nft)
		return s.do("set rules", nft.Flush)
	}
	changed := false
	for _, set := range want.sets {
		got, err := list(s, "rules' elements", func() ([]nftables.SetElement, error) { return nft.GetSetElements(set) })
		if err != nil {
			return err
		}
		more, less := difference(want.elems[set.Name], got)
		if err := addElements(nft, set, more); err != nil {
			return err
		}
		if len(less) > 0 {
			if err := nft.SetDeleteElements(set, less); err != nil {
				return err
			}
		}
		changed = changed || len(more)+len(less) > 0
	}
	if !changed {
		return nil
	}
	return s.do("set rules' elements", nft.Flush)
}

// replace queues the whole table; the empty one that is added first lets the
// deletion succeed where there is none.
func (r ruleset) replace(nft *nftables.Conn) {
	nft.AddTable(r.table)
	nft.DelTable(r.table)
	nft.AddTable(r.table)
	for _, set := range r.sets {
		// An error is one of encoding, and Flush returns it as well.
		_ = nft.AddSet(set, nil)
		more, _ := difference(r.elems[set.Name], nil)
		_ = addElements(nft, set, more)
	}
	for _, c := range r.chains {
		nft.AddChain(c)
		for _, exprs := range r.rules[c.Name] {
			nft.AddRule(&nftables.Rule{Table: r.table, Chain: c, Exprs: exprs})
		}
	}
}

// addElements splits what as a whole might not fit into an attribute of 64 KiB.
func addElements(nft *nftables.Conn, set *nftables.Set, all []nftables.SetElement) error {
	for some := range slices.Chunk(all, 100) {
		if err := nft.SetAddElements(set, some); err != nil {
			return err
		}
	}
	return nil
}

func difference(want [][]byte, got []nftables.SetElement) (more, less []nftables.SetElement) {
	left := map[string]bool{}
	for _, k := range want {
		left[string(k)] = true
	}
	for _, e := range got {
		if !left[string(e.Key)] {
			less = append(less, nftables.SetElement{Key: e.Key})
		}
		delete(left, string(e.Key))
	}
	for _, k := range slices.Sorted(maps.Keys(left)) {
		more = append(more, nftables.SetElement{Key: []byte(k)})
	}
	return more, less
}

// removeRules removes the table if there is one.
func (s *setter) removeRules() error {
	nft, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open an nftables socket: %w", err)
	}
	want := s.ruleset(network.Config{})
	t, err := want.find(nft)
	if err != nil || t == nil {
		return err
	}
	nft.DelTable(want.table)
	return s.do("delete rules", nft.Flush)
}

func (r ruleset) find(nft *nftables.Conn) (*nftables.Table, error) {
	tables, err := nft.ListTablesOfFamily(r.table.Family)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == r.table.Name {
			return t, nil
		}
	}
	return nil, nil
}

// same reports whether the table is there with just these sets, chains and
// rules, and in force.
func (r ruleset) same(nft *nftables.Conn) (bool, error) {
	t, err := r.find(nft)
	if err != nil || t == nil || t.Flags != 0 {
		return false, err
	}
	sets, err := nft.GetSets(r.table)
	if err != nil || len(sets) != len(r.sets) {
		return false, err
	}
	for _, want := range r.sets {
		if !slices.ContainsFunc(sets, func(s *nftables.Set) bool {
			return s.Name == want.Name && s.KeyType.GetNFTMagic() == want.KeyType.GetNFTMagic()
		}) {
			return false, nil
		}
	}
	all, err := nft.ListChainsOfTableFamily(r.table.Family)
	if err != nil {
		return false, err
	}
	all = slices.DeleteFunc(all, func(c *nftables.Chain) bool { return c.Table.Name != r.table.Name })
	if len(all) != len(r.chains) {
		return false, nil
	}
	for _, want := range r.chains {
		if !slices.ContainsFunc(all, func(c *nftables.Chain) bool { return equalChains(c, want) }) {
			return false, nil
		}
		rules, err := nft.GetRules(r.table, want)
		if err != nil || !equalRules(rules, r.rules[want.Name]) {
			return false, err
		}
	}
	return true, nil
}

func equalChains(got, want *nftables.Chain) bool {
	return got.Name == want.Name && got.Type == want.Type && got.Hooknum != nil && *got.Hooknum == *want.Hooknum &&
		*got.Priority == *want.Priority && got.Policy != nil && *got.Policy == *want.Policy
}

// equalRules compares as the kernel would be told them.
func equalRules(got []*nftables.Rule, want [][]expr.Any) bool {
	return slices.EqualFunc(got, want, func(g *nftables.Rule, w []expr.Any) bool {
		return slices.EqualFunc(g.Exprs, w, func(a, b expr.Any) bool {
			x, xerr := expr.Marshal(byte(nftables.TableFamilyINet), a)
			y, yerr := expr.Marshal(byte(nftables.TableFamilyINet), b)
			return xerr == nil && yerr == nil && bytes.Equal(x, y)
		})
	})
}
