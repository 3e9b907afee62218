package link_test

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"banger/internal/network"
	"banger/internal/network/link"
	"banger/test/netns"
)

// firewall is what Docker or ufw make with iptables-nft: all that is forwarded is
// dropped, unless a chain of this name, which is asked first, accepts it. It is
// made with iptables-nft where that is installed.
func firewall(t *testing.T, first string) {
	t.Helper()
	if tool, err := exec.LookPath("iptables-nft"); err == nil {
		for _, args := range []string{"-P FORWARD DROP", "-N " + first, "-A " + first + " -j RETURN", "-A FORWARD -j " + first} {
			if out, err := exec.Command(tool, strings.Fields(args)...).CombinedOutput(); err != nil {
				t.Fatalf("iptables %s: %v\n%s", args, err, out)
			}
		}
		return
	}
	c := must(nftables.New())
	filter := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"})
	drop := nftables.ChainPolicyDrop
	forward := c.AddChain(&nftables.Chain{Table: filter, Name: "FORWARD", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop})
	asked := c.AddChain(&nftables.Chain{Table: filter, Name: first})
	c.AddRule(&nftables.Rule{Table: filter, Chain: forward, Exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictJump, Chain: first}}})
	c.AddRule(&nftables.Rule{Table: filter, Chain: asked, Exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictReturn}}})
	must(0, c.Flush())
}

// A host that drops what it forwards lets VMs through where it asks first, and
// nothing else; with the last VM its chain is as it was.
func TestPassage(t *testing.T) {
	for _, chain := range []string{"DOCKER-USER", "ufw-before-forward"} {
		t.Run(chain, func(t *testing.T) {
			netns.Enter(t)
			world0 := internet(t)
			world0.greet(t)
			firewall(t, chain)
			before := world(t)
			c := config(nat(tap(1)), tap(2))
			apply(t, c)
			g, other := plug(t, tap(1)), plug(t, tap(2))
			if got := g.fetch(far); got != wanAddr.String() {
				t.Errorf("the internet sees %q", got)
			}
			inbox, outside := other.udp(t, 4242, netip.Addr{}), world0.udp(t, 4242, netip.Addr{})
			try := func() string {
				g.send(t, netip.Addr{}, other.tap.Addr, "sister ")
				other.send(t, netip.Addr{}, far, "not allowed ")
				g.send(t, netip.Addr{}, far, "out")
				world0.through(t, &g, &other)
				return received(inbox) + received(outside) + received(outside)
			}
			if got := try(); got != "sister out" {
				t.Errorf("arrived %q", got)
			}
			if again := apply(t, c); len(again) > 0 {
				t.Errorf("again changed %v", again)
			}
			listed(t, chain, "-i btbeef+ -j ACCEPT", "-o btbeef+ -j ACCEPT")

			// Others' reload takes ours with it, and the next Set puts them back.
			n := must(nftables.New())
			n.FlushChain(&nftables.Chain{Table: &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"}, Name: chain})
			must(0, n.Flush())
			if got := try(); got != "" {
				t.Errorf("without our rules arrived %q: the test shows nothing", got)
			}
			apply(t, c)
			if got := try(); got != "sister out" {
				t.Errorf("after a reload arrived %q", got)
			}
			flushRules(t)
			firewall(t, chain)
			apply(t, c)
			closed(t, before)
		})
	}
}

// The rules name a tag and no uid. Who has the same tag, by chance or on purpose,
// does not take them from another user, and the last one takes them away.
func TestPassageOfTwoUsers(t *testing.T) {
	netns.Enter(t)
	firewall(t, "DOCKER-USER")
	before := world(t)
	apply(t, config(tap(1)))
	alone := world(t)
	theirs := network.Config{Tag: tag, Subnet: netip.MustParsePrefix("10.99.0.0/24")}
	for _, taps := range [][]network.Tap{nil, {{VM: tap(1).VM, Addr: netip.MustParseAddr("10.99.0.9")}}, nil} {
		theirs.Taps = taps
		must(link.New(1).Apply(theirs))
	}
	if got := world(t); got != alone {
		t.Errorf("another user changed\n%s\nto\n%s", alone, got)
	}
	theirs.Taps = []network.Tap{{VM: tap(1).VM, Addr: netip.MustParseAddr("10.99.0.9")}}
	must(link.New(1).Apply(theirs))
	apply(t, config())
	if got := rules(t, false); strings.Count(got, "btbeef") < 2 {
		t.Errorf("with the first user the rules of the second went:\n%s", got)
	}
	theirs.Taps = nil
	must(link.New(1).Apply(theirs))
	if after := world(t); after != before {
		t.Errorf("left:\n%s\nbefore:\n%s", after, before)
	}
}

// A host that drops what comes in, as ufw does, lets guests ask for names.
func TestPassageIn(t *testing.T) {
	netns.Enter(t)
	c := must(nftables.New())
	filter := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"})
	drop := nftables.ChainPolicyDrop
	input := c.AddChain(&nftables.Chain{Table: filter, Name: "INPUT", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter, Policy: &drop})
	asked := c.AddChain(&nftables.Chain{Table: filter, Name: "ufw-before-input"})
	c.AddRule(&nftables.Rule{Table: filter, Chain: input, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: asked.Name}}})
	must(0, c.Flush())
	before := world(t)
	apply(t, config(tap(1)))
	port := answerer(t, netip.AddrPortFrom(gateway, 0))
	apply(t, named(port, tap(1)))
	listed(t, asked.Name, "-i btbeef+ -j ACCEPT")
	g := plug(t, tap(1))
	if got, _ := g.ask(t, gateway); got != tap(1).Addr.String() {
		t.Errorf("answered %q", got)
	}
	closed(t, before)
}

// listed fails unless iptables itself, where it is installed, understands the
// chain.
func listed(t *testing.T, chain string, rules ...string) {
	t.Helper()
	tool, err := exec.LookPath("iptables-nft")
	if err != nil {
		t.Log("iptables-nft is not installed: whether it can list our rules was not tried")
		return
	}
	out, err := exec.Command(tool, "-S", chain).CombinedOutput()
	for _, r := range rules {
		if err != nil || !strings.Contains(string(out), "-A "+chain+" "+r+"\n") {
			t.Errorf("iptables -S: %v\n%s", err, out)
		}
	}
}
