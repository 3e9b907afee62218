package server_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"

	"banger/internal/network"
	"banger/test/netns"
)

// A user's port is led while he has it; another user, who has not, is not led it,
// whatever he asks for, and gets it once it is free.
func TestPorts(t *testing.T) {
	netns.Enter(t)
	before := netns.World()
	start(t, user)
	start(t, other)
	mine, _ := connect(t, user)
	theirs, _ := connect(t, other)
	c := config(tap(1))
	c.Ports = []network.Port{{VM: tap(1).VM, Guest: 80}}
	want(t, "listen", mine.ask("listen 0.0.0.0:8080"), "ok")
	want(t, "set", mine.set(c), "ok")
	if w := netns.World(); !strings.Contains(w, "chain publish") || !strings.Contains(w, `set anywhere`) {
		t.Errorf("with a port:\n%s", w)
	}
	made := netns.World()
	want(t, "the same port", theirs.ask("listen 0.0.0.0:8080"), "internal")
	want(t, "set again", mine.set(c), "ok")
	if got := netns.World(); got != made {
		t.Errorf("changed:\n%s", got)
	}
	// The listener still works in the hands of its user: it did not become a blocking one.
	if c, err := net.DialTimeout("tcp4", "127.0.0.1:8080", 10*time.Second); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	// A firewall that comes later ends it; bangerd's listener it judges as any.
	n, drop := must(nftables.New()), nftables.ChainPolicyDrop
	table := n.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "firewall"})
	n.AddChain(&nftables.Chain{Table: table, Name: "input", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter, Policy: &drop})
	must(0, n.Flush())
	for deadline := time.Now().Add(20 * time.Second); strings.Contains(netns.World(), "chain publish"); {
		if time.Now().After(deadline) {
			t.Fatalf("led past a firewall:\n%s", netns.World())
		}
	}
	want(t, "with a firewall", mine.set(c), "host the host's firewall (table firewall, chain input)")
	n.DelTable(table)
	must(0, n.Flush())
	want(t, "without", mine.set(c), "ok")
	if got := netns.World(); got != made {
		t.Errorf("not as it was:\n%s", got)
	}
	want(t, "close", mine.ask("close"), "ok")
	want(t, "the port once it is free", theirs.ask("listen 0.0.0.0:8080"), "ok")
	mine.close()
	if got := netns.World(); got != made {
		t.Errorf("a closed connection changed:\n%s", got)
	}
	b, _ := connect(t, user)
	want(t, "give back", b.set(config()), "ok")
	if got := netns.World(); got != before {
		t.Errorf("left:\n%s", got)
	}
}

// A port of UDP is led no more soon after its user has given it up, or with the last who
// holds the network: not for as long as one who came before goes on sending. One of TCP
// is led, or not, with each connection.
func TestPortsOfUDP(t *testing.T) {
	netns.Enter(t)
	before := netns.World()
	start(t, user)
	b, _ := connect(t, user)
	want(t, "listen", b.ask("bind 0.0.0.0:5353"), "ok")
	c := config(tap(1))
	want(t, "set", b.set(c), "ok")
	without := netns.World()
	c.Ports = []network.Port{{VM: tap(1).VM, Guest: 53}}
	want(t, "set with a port", b.set(c), "ok")
	made := netns.World()
	if made == without {
		t.Error("no port is led")
	}
	until := func(what, world string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); netns.World() != world; {
			if time.Now().After(deadline) {
				t.Fatalf("%s:\n%s\nshould be\n%s", what, netns.World(), world)
			}
		}
	}
	want(t, "close", b.ask("close"), "ok")
	until("after the port was given up", without)
	want(t, "listen", b.ask("bind 0.0.0.0:5353"), "ok")
	want(t, "set with a port", b.set(c), "ok")
	until("again", made)
	b.close()
	until("without a connection", without)
	b, _ = connect(t, user)
	want(t, "give back", b.set(config()), "ok")
	until("left", before)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
