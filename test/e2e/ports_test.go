package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"banger/test/netns"
)

// router is the machine of the internet that the host's uplink leads to.
var router = netip.MustParseAddr("198.51.100.1")

// visit is what a machine outside hears at a port of the host's, or why it does not.
func visit(outside *netns.Thread, port int) (said string) {
	outside.Do(func() {
		c, err := net.DialTimeout("tcp4", netip.AddrPortFrom(wanAddr, uint16(port)).String(), 20*time.Second)
		if err != nil {
			said = err.Error()
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		b, err := io.ReadAll(c)
		if said = string(b); err != nil {
			said += err.Error()
		}
	})
	return said
}

// served is who leads a VM's ports, by what vm ports says.
func (l *lan) served(vm string) (by []string) {
	l.t.Helper()
	var ports []struct {
		Host netip.AddrPort
		By   string
	}
	must(l.t, json.Unmarshal([]byte(l.ok("vm", "ports", vm, "-o", "json")), &ports))
	for _, p := range ports {
		by = append(by, fmt.Sprintf("%s %s", p.Host, p.By))
	}
	return by
}

// Published ports of real guests, for other machines: these are seen by the guest, the
// ports change while it runs, the next daemon has them again, and nothing is left when
// one is given up.
func TestPorts(t *testing.T) {
	var outside *netns.Thread
	l := newLAN(t, func() { outside = internet(t) })
	l.boot("a", "--network", "routed", "--publish", fmt.Sprintf("0.0.0.0:%d:%d", widePort, webPort))
	l.boot("b", "--network", "routed", "--nat=false", "--isolated")
	gateway := l.ok("network", "show", "-o", "json")
	var show struct{ Gateway string }
	must(t, json.Unmarshal([]byte(gateway), &show))
	l.serve("a", webPort)
	l.serve("b", webPort)
	hello := fmt.Sprintf("hello from %s\n", router)
	check := func(what string, want string, by ...string) {
		t.Helper()
		if got := visit(outside, widePort); !strings.HasSuffix(got, want) {
			t.Errorf("%s: from outside %q", what, got)
		}
		for vm, want := range map[string]string{"a": by[0], "b": by[1]} {
			if got := strings.Join(l.served(vm), ", "); got != want {
				t.Errorf("%s: the ports of %s are %q, want %q", what, vm, got, want)
			}
		}
	}
	wide := fmt.Sprintf("0.0.0.0:%d kernel", widePort)
	check("started", hello, wide, "")
	for _, to := range []netip.Addr{wanAddr, netip.MustParseAddr("127.0.0.1")} {
		if got := l.dial(to, widePort); got != "hello from "+show.Gateway+"\n" {
			t.Errorf("from the host to %s: %q", to, got)
		}
	}
	if l.reaches("b", wanAddr, widePort) {
		t.Error("a guest reaches a published port of another")
	}

	// From the one to the other, while both run.
	if r := l.run("vm", "set", "b", "--add-publish", fmt.Sprintf("0.0.0.0:%d:%d", widePort, webPort)); r.code == 0 || !strings.Contains(r.err, "a publishes") {
		t.Errorf("a port that another VM publishes: %+v", r)
	}
	l.ok("vm", "set", "a", "--unpublish", fmt.Sprint(widePort))
	check("given up", "connection refused", "", "")
	taken, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", widePort))
	must(t, err) // it is free
	if r := l.run("vm", "set", "b", "--publish", fmt.Sprintf("0.0.0.0:%d:%d", widePort, webPort)); r.code != 5 || !strings.Contains(r.err, "another program listens") {
		t.Errorf("a port that another program has: %+v", r)
	}
	taken.Close()
	l.ok("vm", "set", "b", "--publish", fmt.Sprintf("0.0.0.0:%d:%d", widePort, webPort))
	check("isolated and without NAT", hello, "", wide)
	l.ok("vm", "set", "b", "--publish", fmt.Sprintf("%d:%d", widePort, webPort))
	check("on the loopback alone", "connection refused", "", fmt.Sprintf("127.0.0.1:%d bangerd", widePort))
	l.ok("vm", "set", "b", "--publish", "none")
	l.ok("vm", "set", "a", "--add-publish", fmt.Sprintf("%s:%d:%d", wanAddr, widePort, webPort))
	wide = fmt.Sprintf("%s:%d kernel", wanAddr, widePort)
	check("on one address", hello, wide, "")

	// Without a daemon nobody listens; the next has the ports again.
	l.ok("daemon", "stop")
	if got := visit(outside, widePort); !strings.HasSuffix(got, "connection refused") {
		t.Errorf("without a daemon: %q", got)
	}
	l.ok("vm", "wait", "a")
	check("by the next daemon", hello, wide, "")
	lock, held, err := l.Lock()
	if err != nil || !held {
		t.Fatal("no daemon: ", err)
	}
	kill(t, lock.PID)
	l.ok("vm", "wait", "a")
	check("after a daemon that was killed", hello, wide, "")
	l.killRoot()
	check("without banger-root", hello, wide, "")

	// A firewall judges what comes in: bangerd leads it, and whoever sets ports is told.
	unfilter := filter(t)
	r := l.run("vm", "set", "a", "--publish", fmt.Sprintf("0.0.0.0:%d:%d", widePort, webPort))
	if r.code != 0 || !strings.Contains(r.err, "led by bangerd alone: the host's firewall (table firewall, chain input)") {
		t.Errorf("with a firewall: %+v", r)
	}
	check("with a firewall", "hello from "+show.Gateway+"\n", fmt.Sprintf("0.0.0.0:%d bangerd", widePort), "")
	unfilter()
	l.ok("vm", "stop", "a")
	if got := visit(outside, widePort); !strings.HasSuffix(got, "connection refused") {
		t.Errorf("stopped: %q", got)
	}
}

// filter has the host drop something that comes in, until it is called off.
func filter(t *testing.T) (off func()) {
	t.Helper()
	n, err := nftables.New()
	must(t, err)
	table := n.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "firewall"})
	chain := n.AddChain(&nftables.Chain{Table: table, Name: "input", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
	n.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_SCTP}},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	must(t, n.Flush())
	return func() {
		n.DelTable(table)
		must(t, n.Flush())
	}
}
