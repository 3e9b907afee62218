package link

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// nest puts rules of a chain that begin with the same conditions, one after the other,
// into a chain of their own, which is jumped to where these hold: they do the same, and
// each condition is looked at once per packet instead of once per rule. Most rules ask
// for the link's name first, which is the dearest to look up.
func (r *ruleset) nest(name string, rules [][]expr.Any) (nested [][]expr.Any) {
	for n := 0; len(rules) > 0; rules = rules[n:] {
		shared := 0
		n, shared = alike(rules)
		if n < 2 {
			nested = append(nested, rules[0])
			continue
		}
		rest := make([][]expr.Any, n)
		for i, rule := range rules[:n] {
			rest[i] = rule[shared:]
		}
		r.nests++
		inner := fmt.Sprintf("%s_%d", name, r.nests)
		jump := &expr.Verdict{Kind: expr.VerdictJump, Chain: inner}
		nested = append(nested, join(rules[0][:shared], []expr.Any{jump}))
		c := &nftables.Chain{Table: r.table, Name: inner}
		r.chains = append(r.chains, c)
		r.put(c, r.nest(name, rest))
	}
	return nested
}

// alike returns how many of the first rules share how many of their first expressions, if
// these are whole conditions: what follows does not look at what they have loaded.
func alike(rules [][]expr.Any) (n, shared int) {
	n = 1
	for _, rule := range rules[1:] {
		common := 0
		for common < min(len(rules[0]), len(rule)) && asks(rule[common]) && text(rules[0][common:common+1]) == text(rule[common:common+1]) {
			common++
		}
		if n > 1 {
			common = min(common, shared) // what the ones before share
		}
		for common > 0 && !(begins(rules[0], common) && begins(rule, common)) {
			common--
		}
		if common == 0 || n > 1 && common < shared {
			break // the group would share less: it ends here
		}
		n, shared = n+1, common
	}
	return n, shared
}

// asks reports whether an expression is part of a condition and does nothing else: what
// counts or limits does so for each rule by itself.
func asks(e expr.Any) bool {
	switch e := e.(type) {
	case *expr.Meta:
		return !e.SourceRegister
	case *expr.Payload:
		return e.OperationType == expr.PayloadLoad
	case *expr.Ct:
		return !e.SourceRegister
	case *expr.Bitwise, *expr.Cmp, *expr.Lookup:
		return true
	}
	return false
}

// begins reports whether a condition, or what is to be done, begins at rule[i].
func begins(rule []expr.Any, i int) bool {
	if i >= len(rule) {
		return false
	}
	switch e := rule[i].(type) {
	case *expr.Meta:
		return !e.SourceRegister
	case *expr.Payload, *expr.Ct, *expr.Immediate, *expr.Verdict, *expr.Counter, *expr.Masq:
		return true
	}
	return false
}

// put adds rules to a chain.
func (r *ruleset) put(c *nftables.Chain, rules [][]expr.Any) {
	for _, e := range rules {
		r.rules[c.Name] = append(r.rules[c.Name], &nftables.Rule{Table: r.table, Chain: c, Exprs: e})
	}
}
