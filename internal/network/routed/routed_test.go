package routed_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
)

func TestLife(t *testing.T) {
	w := &world{}
	a := w.attacher()
	w.run(t, a, 3)
	w.run(t, a, 4)
	w.want(t, "two run", 3, 4)
	detach(t, a, 3) // its record has the run until all of it is down
	w.run(t, a, 5)
	w.want(t, "one ends while another begins", 4, 5)
	if w.dials != 1 {
		t.Errorf("%d connections were made", w.dials)
	}
	w.records = slices.DeleteFunc(w.records, func(t network.Tap) bool { return t.VM == tap(3).VM })
	w.run(t, a, 3)
	w.want(t, "started again", 3, 4, 5)
	detach(t, a, 3)
	detach(t, a, 4)
	if w.open == nil {
		t.Error("the connection was given up while a VM has something of it")
	}
	detach(t, a, 5)
	w.want(t, "all end")
	if w.open != nil {
		t.Error("the connection is held for nothing")
	}
	detach(t, a, 5) // nothing is there: nobody is asked
	if w.dials != 1 {
		t.Errorf("%d connections were made", w.dials)
	}
}

func TestSetFails(t *testing.T) {
	w := &world{}
	a := w.attacher()
	w.run(t, a, 3)
	w.broken = errors.New("no buffer space")
	if _, err := a.Attach(t.Context(), nic(4), nil); !errors.Is(err, w.broken) {
		t.Errorf("attach: %v", err)
	}
	if err := a.Detach(t.Context(), nic(3)); !errors.Is(err, w.broken) {
		t.Errorf("detach: %v", err)
	}
	w.broken = nil
	detach(t, a, 3)
	w.want(t, "in the end")
}

func TestHalfAttached(t *testing.T) {
	for _, another := range []bool{false, true} {
		w := &world{broken: errors.New("no buffer space"), half: true, records: []network.Tap{tap(3)}}
		a := w.attacher()
		if _, err := a.Attach(t.Context(), nic(3), nil); !errors.Is(err, w.broken) {
			t.Errorf("attach: %v", err)
		}
		w.broken = nil
		if another {
			a, w.records = w.attacher(), nil
			if got, err := a.Pending(t.Context()); err != nil || !slices.Equal(got, []string{"gateway"}) {
				t.Errorf("pending %v, %v", got, err)
			}
			if err := a.Tend(t.Context()); err != nil {
				t.Error(err)
			}
		} else {
			detach(t, a, 3)
		}
		if w.gateway {
			t.Errorf("by another daemon %v: the gateway's link is left", another)
		}
	}
}

func TestDetachAfterFailure(t *testing.T) {
	w := &world{}
	a := w.attacher()
	w.run(t, a, 3)
	w.broken = errors.New("no buffer space")
	w.records = append(w.records, tap(4))
	if _, err := a.Attach(t.Context(), nic(4), nil); !errors.Is(err, w.broken) {
		t.Errorf("attach: %v", err)
	}
	w.broken = nil
	dials := w.dials
	detach(t, a, 4)
	if w.dials == dials {
		t.Error("nobody was asked")
	}
	w.want(t, "in the end", 3)
	detach(t, a, 4)
	if w.dials != dials+1 {
		t.Error("asked for nothing")
	}
}

func TestCheckNAT(t *testing.T) {
	w := &world{}
	a := w.attacher()
	check := func(what string, code banger.Code, says string) {
		t.Helper()
		err := a.CheckNAT(t.Context())
		if banger.CodeOf(err) != code || err != nil && (!strings.Contains(err.Error(), says) || code == banger.HostUnready && banger.AsError(err).Remedy == "") {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("no uplink", banger.HostUnready, "no default route")
	w.uplinks = []network.Uplink{{Name: "eth0", MTU: 1500, Closed: true}}
	check("closed", banger.HostUnready, "switched off on eth0")
	w.uplinks = append(w.uplinks, network.Uplink{Name: "eth1", MTU: 1500})
	check("one is open", "", "")
	w.old = banger.Errorf(banger.HostUnready, "of an earlier banger").WithRemedy("end it")
	check("an old banger-root", banger.HostUnready, "earlier")
	w.die()
	check("no banger-root", banger.NeedsRoot, "")
}

func TestAdjust(t *testing.T) {
	w := &world{}
	a := w.attacher()
	w.run(t, a, 3)
	w.run(t, a, 4)
	n := nic(3)
	for _, want := range []bool{true, false, true} {
		w.records[0].NAT, n.NAT = want, want
		if err := a.Adjust(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		if w.host[0].NAT != want || w.host[1].NAT {
			t.Errorf("want %v, the host has %+v", want, w.host)
		}
	}
	w.die()
	if err := a.Adjust(t.Context(), n); banger.CodeOf(err) != banger.NeedsRoot {
		t.Errorf("without banger-root: %v", err)
	}
}

func TestMTU(t *testing.T) {
	w := &world{}
	a := w.attacher()
	n := nic(3)
	n.NAT = true
	for want, mtus := range map[int][]int{0: {1500, 9000}, 1400: {1500, 1400, 1420}, 576: {100}} {
		w.uplinks = nil
		for _, m := range mtus {
			w.uplinks = append(w.uplinks, network.Uplink{Name: "eth0", MTU: m})
		}
		ep, err := a.Attach(t.Context(), n, nil)
		if err != nil || ep.MTU != want {
			t.Errorf("uplinks of %v: %d, %v", mtus, ep.MTU, err)
		}
		w.uplinks = []network.Uplink{{Name: "eth0", MTU: 1280}}
		if again, err := a.Attach(t.Context(), n, &ep); err != nil || again != ep {
			t.Errorf("of one that runs: %+v, %v", again, err)
		}
	}
	n.NAT = false
	if ep, err := a.Attach(t.Context(), n, nil); err != nil || ep.MTU != 0 {
		t.Errorf("without NAT: %d, %v", ep.MTU, err)
	}
}

func TestNames(t *testing.T) {
	w := &world{}
	a := w.attacher()
	check := func(what string, want bool) {
		t.Helper()
		if w.names != want {
			t.Errorf("%s: guests are answered: %v", what, w.names)
		}
	}
	w.absent = true
	if _, err := a.Attach(t.Context(), nic(3), nil); err == nil {
		t.Fatal("attached without banger-root")
	}
	check("no banger-root", false)
	w.absent = false
	w.run(t, a, 3)
	check("a VM runs", true)

	// The next daemon, while no banger-root runs.
	w.die()
	w.names = false
	ep := banger.Endpoint{Tap: "t" + string(nic(3).VM), GatewayMAC: "02:00:00:00:00:01", SSH: netip.AddrPortFrom(nic(3).Addr, 5122)}
	if _, err := w.attacher().Attach(t.Context(), nic(3), &ep); err != nil {
		t.Fatal(err)
	}
	check("adopted", true)
	w.records = nil
	if err := a.Detach(t.Context(), nic(3)); err != nil {
		t.Fatal(err)
	}
	check("stopped, and the tap is left", false)
}

func TestPublish(t *testing.T) {
	w := &world{}
	a := w.attacher()
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := nic(3)
	n.Publish = []banger.Publish{{Host: taken.Addr().(*net.TCPAddr).AddrPort(), Guest: 80, Proto: banger.TCP}}
	if _, err := a.Attach(t.Context(), n, nil); banger.CodeOf(err) != banger.HostUnready || w.gateway {
		t.Errorf("a port that is taken: %v; made: %v", err, w.gateway)
	}
	w.records = []network.Tap{tap(3)}
	ep := banger.Endpoint{Tap: "t" + string(n.VM), GatewayMAC: "02:00:00:00:00:01", SSH: netip.AddrPortFrom(n.Addr, 5122)}
	if got, err := a.Attach(t.Context(), n, &ep); err != nil || got != ep {
		t.Errorf("adopt: %+v, %v", got, err)
	}
	taken.Close()
	listens := func() bool {
		c, err := net.Dial("tcp4", n.Publish[0].Host.String())
		if err == nil {
			c.Close()
		}
		return err == nil || errors.Is(err, unix.ECONNRESET)
	}
	for range 2 { // the second finds it done
		if _, err := a.Attach(t.Context(), n, &ep); err != nil || !listens() {
			t.Errorf("attach: %v, listens %v", err, listens())
		}
	}
	w.records = nil
	if err := a.Detach(t.Context(), n); err != nil || listens() {
		t.Errorf("detach: %v, listens %v", err, listens())
	}
	w.broken = errors.New("broken")
	if _, err := a.Attach(t.Context(), n, nil); err == nil || listens() {
		t.Errorf("attach that fails: %v, listens %v", err, listens())
	}
	w.broken = nil
	if _, err := a.Attach(t.Context(), n, nil); err != nil || !listens() {
		t.Errorf("attach: %v", err)
	}
	if err := a.Close(); err != nil || listens() {
		t.Errorf("close: %v, listens %v", err, listens())
	}
	low := []banger.Publish{{Host: netip.MustParseAddrPort("127.0.0.1:1"), Guest: 80, Proto: banger.TCP}}
	if err := a.CheckPublish(low, false); network.FirstPort() > 1 && banger.CodeOf(err) != banger.HostUnready {
		t.Errorf("port 1: %v", err)
	}
}
