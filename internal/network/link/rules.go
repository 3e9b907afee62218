package link

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
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
	setNAT    = "nat"    // addresses that reach the world, each with each uplink
	setUp     = "uplinks"
	setOpened = "opened" // uplinks that forward only because banger says so
	setHosts  = "hosts"  // guests' addresses and the ports of the host that they are let to
	setFlows  = "flows"  // by guest: its open connections
	setFresh  = "fresh"  // by guest: its new ones
)

// metadata is where clouds tell a machine its secrets, reached from the host
// alone: link-local addresses (all clouds), Azure's WireServer, Alibaba's.
var metadata = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("168.63.129.16/32"), netip.MustParsePrefix("100.100.100.200/32"),
}

// A ruleset is one installation's table: as it should be, or as it is.
type ruleset struct {
	table  *nftables.Table
	sets   []*nftables.Set
	elems  map[string]elements // by set
	chains []*nftables.Chain
	rules  map[string][]*nftables.Rule // by chain
}

func (s *setter) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: s.tableName()}
}

func (s *setter) tableName() string { return fmt.Sprintf("%s%d_%s", prefix, s.uid, s.tag) }

func (s *setter) ruleset(c network.Config) *ruleset {
	r := &ruleset{table: s.table(), elems: map[string]elements{}, rules: map[string][]*nftables.Rule{}}
	lease := nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr)
	way := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIFIndex)
	here := binaryutil.NativeEndian // tells nft(8) how to print keys
	r.sets = []*nftables.Set{
		{Table: r.table, Name: setTaps, KeyType: nftables.TypeIFName, KeyByteOrder: here},
		{Table: r.table, Name: setOpen, KeyType: nftables.TypeIFName, KeyByteOrder: here},
		{Table: r.table, Name: setLeases, KeyType: lease, Concatenation: true},
		{Table: r.table, Name: setNAT, KeyType: way, Concatenation: true},
		{Table: r.table, Name: setUp, KeyType: nftables.TypeIFIndex, KeyByteOrder: here},
		{Table: r.table, Name: setOpened, KeyType: nftables.TypeIFIndex, KeyByteOrder: here},
		hostsSet(r.table),
	}
	r.limit(s.limits)
	for _, t := range s.taps {
		key := make([]byte, unix.IFNAMSIZ)
		copy(key, t.name)
		r.element(setTaps, key)
		if !t.Isolated {
			r.element(setOpen, key)
		}
		r.element(setLeases, key, t.Addr.AsSlice())
		r.allow(t.Tap)
	}
	for _, l := range s.uplinks {
		index := binaryutil.NativeEndian.PutUint32(uint32(l.Attrs().Index))
		r.element(setUp, index)
		for _, t := range c.Taps {
			if t.NAT {
				r.element(setNAT, t.Addr.AsSlice(), index)
			}
		}
	}
	for _, l := range s.opened {
		r.element(setOpened, binaryutil.NativeEndian.PutUint32(uint32(l.Attrs().Index)))
	}
	s.first(r)
	s.input(r, c)
	s.addPublish(r, c)
	s.forward(r, c)
	if slices.ContainsFunc(c.Taps, func(t network.Tap) bool { return t.NAT }) {
		r.chain("postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource,
			join(isIPv4, load(sourceAt, oif), among(setNAT), []expr.Any{&expr.Masq{}})).Type = nftables.ChainTypeNAT
	}
	return r
}

// first adds the rules that each packet meets before its connection is tracked: a guest
// fills no table with what it made up, and has no part in others' connections. They come
// before others' rules lead anything elsewhere, too. What is no guest's is asked for its
// source and the first letters of its link, since a set costs several times of that.
func (s *setter) first(r *ruleset) {
	const guest = "guest"
	known := [][]expr.Any{join(notVersion4, drop)}
	for _, p := range metadata {
		if !s.net.Prefix.Overlaps(p) { // there it is a VM's
			known = append(known, join(to(p), drop))
		}
	}
	r.regular(guest, append(known, untracked(s.net))...)
	r.chain("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityRaw,
		join(from(s.net.Prefix), leased, goTo(guest)),
		join(inPrefix(addr.TapPrefix(s.tag)), in(setTaps), drop))
}

// input adds the rules of what comes to the host, and of what is led to who answers for
// names.
func (s *setter) input(r *ruleset, c network.Config) {
	const asks, host = "asks", "host"
	gateway := s.net.Gateway.AsSlice()
	own := [][]expr.Any{join(replies, pass), join(pingTo(gateway), toBegin)}
	if c.Names != 0 {
		var led [][]expr.Any
		for _, proto := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
			led = append(led, join(port(proto, dns), lead(gateway, c.Names)))
			own = append(own, join(at(gateway), port(proto, c.Names), toBegin))
		}
		r.regular(asks, led...)
		r.chain("names", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest,
			join(in(setTaps), between(gateway, s.net.Resolver.AsSlice()), goTo(asks))).Type = nftables.ChainTypeNAT
	}
	r.regular(host, append(own, join(allowed(gateway), toBegin), drop)...)
	r.chain("input", nftables.ChainHookInput, nftables.ChainPriorityFilter, join(in(setTaps), goTo(host)))
}

// forward adds the rules of what goes through the host. What most packets are comes
// first: of a connection between a VM with NAT and the world, whoever began it. A tap
// sends with no other address than its VM's.
func (s *setter) forward(r *ruleset, c network.Config) {
	const world, inside = "world", "inside"
	r.regular(world,
		join(to(s.net.Prefix), drop), // nobody has it now: it is not for the world
		join(invalid, drop),          // it would go out with the guest's address
		join(privileged(unix.IPPROTO_TCP), drop),
		join(privileged(unix.IPPROTO_UDP, ntp, ike), drop),
		toBegin)
	outward, inward := join(in(setTaps), outBy(setUp)), join(isIPv4, inBy(setUp), out(setTaps))
	r.regular(inside,
		join(load(sourceAt, oif), among(setNAT), answers, pass),
		join(inward, drop)) // no VM is there, whatever a connection of one's says
	r.chain("forward", nftables.ChainHookForward, nftables.ChainPriorityFilter, slices.Concat([][]expr.Any{
		join(from(s.net.Prefix), jumpTo(inside)),
		join(to(s.net.Prefix), version4, load(destinationAt, iif), among(setNAT), answers, pass),
	}, published(r, c, outward, inward), [][]expr.Any{
		join(in(setTaps), load(sourceAt, oif), among(setNAT), goTo(world)),
		join(in(setOpen), out(setOpen), pass),
		join(in(setTaps), drop),
		join(out(setTaps), drop),
		// The host is no router for its neighbours, but of what somebody leads from an
		// address of the host's to others, as another installation its ports.
		join(isIPv4, inBy(setOpened), notAnswers, destinationKept, drop),
	})...)
}

func (r *ruleset) element(set string, key ...[]byte) {
	r.lead(set, nil, key...)
}

func (r *ruleset) chain(name string, hook *nftables.ChainHook, prio *nftables.ChainPriority, rules ...[]expr.Any) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	c := &nftables.Chain{Table: r.table, Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: prio, Policy: &accept}
	r.add(c, rules)
	return c
}

// regular is a chain that others go to.
func (r *ruleset) regular(name string, rules ...[]expr.Any) {
	r.add(&nftables.Chain{Table: r.table, Name: name}, rules)
}

func (r *ruleset) add(c *nftables.Chain, rules [][]expr.Any) {
	r.chains = append(r.chains, c)
	for _, e := range rules {
		r.rules[c.Name] = append(r.rules[c.Name], &nftables.Rule{Table: r.table, Chain: c, Exprs: e})
	}
}

// nftables is one connection for all of an Apply: to open and close one for each look
// cost as much as looking.
func (s *setter) nftables() *nftables.Conn {
	return list(s, "nftables", func() (_ *nftables.Conn, err error) {
		if s.nft == nil {
			s.nft, err = nftables.New(nftables.AsLasting())
		}
		return s.nft, err
	})
}

// setRules makes the table what it should be in one transaction, or changes
// nothing: no packet sees it half done. Where rules and sets are those that it
// should have, only elements are changed.
func (s *setter) setRules(c network.Config) {
	nft := s.nftables()
	want, got := s.ruleset(c), s.readRules(nft)
	anew, before := got.shape() != want.shape(), got.elems
	if anew {
		got.elems = nil
	}
	needed, gone, come := anew, map[string][]nftables.SetElement{}, map[string][]nftables.SetElement{}
	for _, set := range want.sets {
		if set.Dynamic {
			continue // the kernel's own
		}
		was, is := got.elems[set.Name], want.elems[set.Name]
		gone[set.Name], come[set.Name] = was.without(is), is.without(was)
		needed = needed || len(gone[set.Name])+len(come[set.Name]) > 0
	}
	s.do(needed, "set rules", func() error {
		if anew {
			if err := want.make(nft); err != nil {
				return err
			}
		}
		for _, set := range want.sets {
			err := errors.Join(chunks(nft.SetDeleteElements, set, gone[set.Name]), chunks(nft.SetAddElements, set, come[set.Name]))
			if err != nil {
				return err
			}
		}
		err := nft.Flush()
		if anew && len(c.Ports) == 0 { // without the ports it is tried again
			err = ofLimits(err)
		}
		return ofPorts(c, err)
	})
	s.endLed(before, want.elems)
}

// make has the table made anew, without elements.
func (r *ruleset) make(nft *nftables.Conn) error {
	nft.AddTable(r.table) // or the deletion fails where there is none
	nft.DelTable(r.table)
	nft.AddTable(r.table)
	for _, set := range r.sets {
		if err := nft.AddSet(set, nil); err != nil {
			return err
		}
	}
	for _, c := range r.chains { // before what jumps to them
		nft.AddChain(c)
	}
	for _, c := range r.chains {
		for _, rule := range r.rules[c.Name] {
			nft.AddRule(rule)
		}
	}
	return nil
}

// chunks calls f with some elements at a time: an attribute has at most 64 KiB.
func chunks(f func(*nftables.Set, []nftables.SetElement) error, set *nftables.Set, all []nftables.SetElement) error {
	for some := range slices.Chunk(all, 100) {
		if err := f(set, some); err != nil {
			return err
		}
	}
	return nil
}

// removeRules removes the table if there is one.
func (s *setter) removeRules() {
	nft := s.nftables()
	got := s.readRules(nft)
	s.do(got.table != nil, "delete rules", func() error { nft.DelTable(s.table()); return nft.Flush() })
	s.endLed(got.elems, nil)
}

// readRules returns the table as it is, an empty ruleset if there is none.
func (s *setter) readRules(nft *nftables.Conn) *ruleset {
	r, want := &ruleset{}, s.table()
	for _, t := range list(s, "tables", func() ([]*nftables.Table, error) { return nft.ListTablesOfFamily(want.Family) }) {
		if t.Name == want.Name {
			r.table = t
		}
	}
	if r.table == nil {
		return r
	}
	r.sets = list(s, "sets", func() ([]*nftables.Set, error) { return nft.GetSets(r.table) })
	r.elems = list(s, "elements", func() (map[string]elements, error) { return readElements(r.table, r.sets) })
	for _, c := range list(s, "chains", func() ([]*nftables.Chain, error) { return nft.ListChainsOfTableFamily(want.Family) }) {
		if c.Table.Name == want.Name {
			r.chains = append(r.chains, c)
		}
	}
	r.rules = list(s, "rules", func() (all map[string][]*nftables.Rule, err error) {
		all = map[string][]*nftables.Rule{}
		for _, c := range r.chains {
			if err == nil {
				all[c.Name], err = nft.GetRules(r.table, c)
			}
		}
		return all, err
	})
	return r
}

// shape is all that counts of a ruleset but its elements, in an order that is always
// the same: two with the same shape and elements do the same.
func (r *ruleset) shape() string {
	if r.table == nil {
		return ""
	}
	lines := []string{fmt.Sprintf("table %s flags %d", r.table.Name, r.table.Flags)}
	for _, s := range r.sets {
		lines = append(lines, fmt.Sprintf("set %s %s %t", s.Name, s.KeyType.Name, s.Dynamic))
	}
	for _, c := range r.chains {
		line := "chain " + c.Name
		if c.Hooknum != nil && c.Priority != nil && c.Policy != nil {
			line += fmt.Sprint(c.Type, *c.Hooknum, *c.Priority, *c.Policy)
		}
		for _, rule := range r.rules[c.Name] {
			line += " rule" + text(rule.Exprs)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// text is what a rule does, as the kernel would be told it. What it has counted is
// not of it.
func text(rule []expr.Any) (s string) {
	for _, e := range rule {
		switch e.(type) {
		case *expr.Counter, *expr.Socket: // the library reads no socket back; what it is compared with it does
		default:
			data, err := expr.Marshal(unix.NFPROTO_INET, e)
			s += fmt.Sprintf(" %x %v", data, err)
		}
	}
	return s
}

// What rules are put together from. Register 1 and 2 are neighbours of 16 bytes
// each: an interface's name and an address make one key of 20.
