package link

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"banger"
	"banger/internal/network"
)

// legacyInput are the tables of iptables-legacy, whose rules netlink does not tell, that
// have a chain for what comes in: the others are asked before it is led anywhere, or drop
// nothing.
var legacyInput = []string{"filter", "mangle", "security"}

// refusePorts fails, as HostUnready, if c has ports and somebody else's rules judge
// what comes in to the host: led to a VM it would pass them by, and their owner, who
// lets no program of a user's be reached from outside, does not want that. What a
// program listens to they judge, and so what bangerd leads.
func (s *setter) refusePorts(c network.Config) {
	if len(c.Ports) == 0 || s.err != nil {
		return
	}
	who := ""
	if b, err := os.ReadFile("/proc/thread-self/net/ip_tables_names"); err == nil {
		for _, table := range strings.Fields(string(b)) {
			if slices.Contains(legacyInput, table) {
				who = "iptables-legacy, table " + table
			}
		}
	}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyINet} {
		if who == "" {
			who = s.inputFilter(family)
		}
	}
	if who != "" && s.err == nil {
		s.err = banger.Errorf(banger.HostUnready, "the host's firewall (%s) judges what comes in, and does not see what the kernel leads on", who).
			WithRemedy("let the port in there, as for any program of the host: bangerd leads it; VMs see the gateway as the sender")
	}
}

// judgesInput reports whether a chain sees what comes in to the host: at the hook for
// that, or at the first one so late that it would see a guest's port in the place of the
// host's. At the first one earlier it sees what was sent.
func judgesInput(ch *nftables.Chain) bool {
	if ch.Hooknum == nil || ch.Priority == nil {
		return false
	}
	late := *ch.Priority >= *nftables.ChainPriorityNATDest && ch.Type == nftables.ChainTypeFilter
	return *ch.Hooknum == *nftables.ChainHookInput || *ch.Hooknum == *nftables.ChainHookPrerouting && late
}

// inputFilter names a chain of others that may drop what comes in, "" if there is none.
func (s *setter) inputFilter(family nftables.TableFamily) string {
	nft := s.nftables()
	chains := list(s, "others' chains", func() ([]*nftables.Chain, error) { return nft.ListChainsOfTableFamily(family) })
	for _, ch := range chains {
		if !judgesInput(ch) || strings.HasPrefix(ch.Table.Name, prefix) {
			continue
		}
		seen := map[string]bool{}
		var drops func(name string) bool
		drops = func(name string) bool {
			if seen[name] {
				return false
			}
			seen[name] = true
			rules := list(s, "others' rules", func() ([]*nftables.Rule, error) {
				return nft.GetRules(ch.Table, &nftables.Chain{Table: ch.Table, Name: name})
			})
			return slices.ContainsFunc(rules, func(r *nftables.Rule) bool {
				return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool { return refuses(e, drops) })
			})
		}
		if ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop || drops(ch.Name) {
			return fmt.Sprintf("table %s, chain %s", ch.Table.Name, ch.Name)
		}
	}
	return ""
}

// refuses reports whether a part of a rule may keep a packet from going on; drops is
// asked of the chains that it leads to.
func refuses(e expr.Any, drops func(chain string) bool) bool {
	switch e := e.(type) {
	case *expr.Verdict:
		switch e.Kind {
		case expr.VerdictJump, expr.VerdictGoto:
			return drops(e.Chain)
		case expr.VerdictDrop, expr.VerdictStolen, expr.VerdictQueue:
			return true
		}
	case *expr.Lookup:
		return e.IsDestRegSet && e.DestRegister == 0 // a verdict
	case *expr.Target:
		return e.Name != "LOG"
	case *expr.Reject, *expr.Queue:
		return true
	}
	return false
}
