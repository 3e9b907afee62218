package link_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"banger"
	"banger/internal/network"
	"banger/internal/network/link"
	"banger/test/netns"
)

// A banger-root that is killed after it has taken a port's rules away has not ended who
// came by it. The next one does, and whoever has the port now hears of him; who comes by
// a port that is still led, asks for a name or is outside goes on.
func TestStaleConnections(t *testing.T) {
	netns.Enter(t)
	outside := internet(t)
	before := world(t)
	web := nat(tap(1))
	c := named(5353, web)
	given, kept := hold(t, wanAddr.String()+":8080", banger.UDP), hold(t, wanAddr.String()+":8081", banger.UDP)
	c.Ports = []network.Port{claimed(t, web, 53, given), claimed(t, web, 54, kept)}
	apply(t, c)
	g := plug(t, web)
	g.echoUDP(t, 53)
	g.echoUDP(t, 54)
	names := answerer(t, netip.AddrPortFrom(gateway, 0))
	c.Names = names
	apply(t, c)
	if got, _ := g.ask(t, gateway); got != web.Addr.String() {
		t.Fatalf("asking for a name: %q", got)
	}
	dial := func(port string) (c net.Conn) {
		outside.in(func() { c = must(net.Dial("udp4", wanAddr.String()+":"+port)) })
		t.Cleanup(func() { c.Close() })
		return c
	}
	first, second := dial("8080"), dial("8081")
	ask := func(c net.Conn) string {
		b := make([]byte, 100)
		_, _ = c.Write([]byte("who?"))
		_ = c.SetDeadline(time.Now().Add(3 * time.Second))
		n, _ := c.Read(b)
		return string(b[:n])
	}
	if got := ask(first) + ask(second); got != router.String()+router.String() {
		t.Fatalf("the guest sees %q", got)
	}
	given.Close()
	var host *guest
	theirs := host.udp(t, 8080, wanAddr)
	flushRules(t) // with the rules' elements it would know what has ended
	c.Ports = c.Ports[1:]
	r := link.New(uid)
	for n, want := range []bool{true, false} { // of one that nothing can have been done without
		changes := must(r.Apply(c))
		ended := false
		for _, one := range changes {
			ended = ended || one == "end stale connections"
		}
		if ended != want {
			t.Errorf("time %d changed %v", n+1, changes)
		}
	}
	_, _ = first.Write([]byte("hello"))
	outside.through(t, &g)
	if got := received(theirs); got != "hello" {
		t.Errorf("who has the port now hears %q", got)
	}
	if got := ask(second); got != router.String() {
		t.Errorf("by the other port the guest sees %q", got)
	}
	if got, _ := g.ask(t, gateway); got != web.Addr.String() {
		t.Errorf("asking for a name: %q", got)
	}
	closed(t, before)
}
