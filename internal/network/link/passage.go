package link

import (
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"banger/internal/network"
	"banger/internal/network/addr"
)

// passages are the chains, in the table "filter" of iptables, that Docker and ufw
// ask first about what is forwarded, or comes in, and that they leave to the
// administrator. After them both drop it, which no table of ours could undo. So what
// comes from and goes to taps is accepted there, and judged by our own table alone.
var passages = map[string][]expr.MetaKey{
	"DOCKER-USER":        {expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME},
	"ufw-before-forward": {expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME},
	"ufw-before-input":   {expr.MetaKeyIIFNAME},
}

// setPassages puts the rules where such a chain is, or takes them away. They are
// those of iptables -i PREFIX+ -j ACCEPT and -o PREFIX+ -j ACCEPT, which iptables can
// list.
func (s *setter) setPassages(c network.Config) {
	nft := s.nftables()
	for _, ch := range list(s, "others' chains", func() ([]*nftables.Chain, error) { return nft.ListChainsOfTableFamily(nftables.TableFamilyIPv4) }) {
		keys := passages[ch.Name]
		if ch.Table.Name != "filter" || keys == nil {
			continue
		}
		there := list(s, "others' rules", func() ([]*nftables.Rule, error) { return nft.GetRules(ch.Table, ch) })
		own := slices.DeleteFunc(there, func(r *nftables.Rule) bool {
			return !slices.ContainsFunc(keys, func(k expr.MetaKey) bool { return text(r.Exprs) == text(passing(s.tag, k)) })
		})
		remove := func() {
			for _, r := range own {
				nft.DelRule(r)
			}
		}
		s.do(len(own) != len(keys) && len(c.Taps) > 0, "let taps pass", func() error {
			remove()
			for _, key := range keys {
				nft.InsertRule(&nftables.Rule{Table: ch.Table, Chain: ch, Exprs: passing(s.tag, key)})
			}
			return nft.Flush()
		})
		s.do(len(own) > 0 && len(c.Taps) == 0 && !s.tagIsOthers(), "let taps pass no more", func() error {
			remove()
			return nft.Flush()
		})
	}
}

// tagIsOthers reports whether another uid has taps with the same tag: their names
// begin alike, and the rules, in which no uid is, are theirs as well.
func (s *setter) tagIsOthers() bool {
	for name, l := range s.names {
		if alias := l.Attrs().Alias; strings.HasPrefix(name, addr.TapPrefix(s.tag)) && strings.HasPrefix(alias, "banger uid=") && !strings.HasPrefix(alias, s.own) {
			return true
		}
	}
	return false
}

// passing accepts what comes from an installation's taps, or goes to them.
func passing(tag string, key expr.MetaKey) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(addr.TapPrefix(tag))},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}
