package link

import (
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"banger/internal/network"
	"banger/internal/network/addr"
)

// passages are the chains, in the table "filter" of iptables, that Docker and ufw
// ask first about what is forwarded, and that they leave to the administrator.
// After them both drop it, which no table of ours could undo. So what comes from
// and goes to taps is accepted there, and judged by our own table alone.
var passages = []string{"DOCKER-USER", "ufw-before-forward"}

// setPassages puts the two rules where such a chain is, or takes them away. They
// are those of iptables -i PREFIX+ -j ACCEPT and -o PREFIX+ -j ACCEPT, which
// iptables can list.
func (s *setter) setPassages(c network.Config) {
	nft := list(s, "nftables", func() (*nftables.Conn, error) { return nftables.New() })
	for _, ch := range list(s, "others' chains", func() ([]*nftables.Chain, error) { return nft.ListChainsOfTableFamily(nftables.TableFamilyIPv4) }) {
		if ch.Table.Name != "filter" || !slices.Contains(passages, ch.Name) {
			continue
		}
		there := list(s, "others' rules", func() ([]*nftables.Rule, error) { return nft.GetRules(ch.Table, ch) })
		for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
			rule := []expr.Any{
				&expr.Meta{Key: key, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(addr.TapPrefix(s.tag))},
				&expr.Counter{},
				&expr.Verdict{Kind: expr.VerdictAccept},
			}
			i := slices.IndexFunc(there, func(r *nftables.Rule) bool { return text(r.Exprs) == text(rule) })
			s.do(i < 0 && len(c.Taps) > 0, "let taps pass", func() error {
				nft.InsertRule(&nftables.Rule{Table: ch.Table, Chain: ch, Exprs: rule})
				return nft.Flush()
			})
			s.do(i >= 0 && len(c.Taps) == 0, "let taps pass no more", func() error {
				nft.DelRule(there[i])
				return nft.Flush()
			})
		}
	}
}
