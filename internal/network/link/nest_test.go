package link

import (
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// flat puts rules back to where they were jumped to from.
func (r *ruleset) flat(chain string) (texts []string) {
	for _, rule := range r.rules[chain] {
		last := len(rule.Exprs) - 1
		if v, ok := rule.Exprs[last].(*expr.Verdict); ok && v.Kind == expr.VerdictJump {
			for _, inner := range r.flat(v.Chain) {
				texts = append(texts, text(rule.Exprs[:last])+inner)
			}
			continue
		}
		texts = append(texts, text(rule.Exprs))
	}
	return texts
}

// Nested rules are the same rules in the same order, cut where a condition ends.
func TestNest(t *testing.T) {
	gateway := []byte{10, 0, 0, 1}
	taps, up := in("taps"), outBy("up")
	for name, c := range map[string]struct {
		rules  [][]expr.Any
		chains int
	}{
		"nothing in common": {[][]expr.Any{join(taps, drop), join(up, drop), join(isIPv4, drop)}, 1},
		"one condition":     {[][]expr.Any{join(taps, notIPv4, drop), join(taps, leased, drop), join(taps, drop), join(up, pass)}, 2},
		"two, and one": {[][]expr.Any{
			join(taps, source, among("nat"), drop), join(taps, up, privileged(unix.IPPROTO_TCP), drop),
			join(taps, up, privileged(unix.IPPROTO_UDP, ntp), drop), join(taps, drop),
		}, 3},
		// The second comparison looks at what was loaded before the first.
		"a range":         {[][]expr.Any{join(between(gateway, []byte{10, 0, 0, 2}), drop), join(between(gateway, []byte{10, 0, 0, 3}), pass)}, 1},
		"the same source": {[][]expr.Any{join(source, among("a"), pass), join(source, among("b"), pass)}, 1},
		"twice the same":  {[][]expr.Any{join(taps, pass), join(taps, pass)}, 2},
		"what counts":     {[][]expr.Any{join(taps, []expr.Any{&expr.Limit{Rate: 1}}, isIPv4, pass), join(taps, []expr.Any{&expr.Limit{Rate: 1}}, isIPv4, pass)}, 1},
		"but not between": {[][]expr.Any{join(taps, pass), join(up, drop), join(taps, drop)}, 1},
	} {
		r := &ruleset{table: &nftables.Table{}, rules: map[string][]*nftables.Rule{}}
		r.chain("c", nftables.ChainHookForward, nftables.ChainPriorityFilter, c.rules...)
		var want []string
		for _, rule := range c.rules {
			want = append(want, text(rule))
		}
		if got := r.flat("c"); !slices.Equal(got, want) {
			t.Errorf("%s: are\n%q, want\n%q", name, got, want)
		}
		if len(r.chains) != c.chains {
			t.Errorf("%s: %d chains, want %d", name, len(r.chains), c.chains)
		}
		for _, rules := range r.rules {
			for _, rule := range rules {
				if !begins(rule.Exprs, 0) {
					t.Errorf("%s: a rule begins in the middle of a condition: %s", name, text(rule.Exprs))
				}
			}
		}
	}
}
