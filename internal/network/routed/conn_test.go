package routed_test

import (
	"net/netip"
	"slices"
	"testing"

	"banger"
	"banger/internal/network/routed"
)

func TestAnotherDaemon(t *testing.T) {
	w := &world{}
	a := w.attacher()
	w.run(t, a, 3)
	w.run(t, a, 4)
	w.run(t, a, 5)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	w.want(t, "the daemon ended", 3, 4, 5)
	b := w.attacher()
	if _, err := b.Attach(t.Context(), nic(3), nil); err != nil {
		t.Fatal(err)
	}
	w.want(t, "one was mended", 3, 4, 5)
	detach(t, b, 4) // its VMM was gone
	w.want(t, "one was lost", 3, 5)
}

func TestRootDies(t *testing.T) {
	w := &world{}
	a := w.attacher()
	w.run(t, a, 3)
	w.run(t, a, 4)
	w.die()
	if err := a.Probe(t.Context()); banger.CodeOf(err) != banger.NeedsRoot {
		t.Errorf("probe: %v", err)
	}
	if _, err := a.Attach(t.Context(), nic(5), nil); banger.CodeOf(err) != banger.NeedsRoot {
		t.Errorf("attach: %v", err)
	}
	detach(t, a, 4) // the VM is down all the same
	w.want(t, "without banger-root", 3, 4)
	pending(t, a, 4)
	if err := a.Tend(t.Context()); err != nil {
		t.Errorf("tend without banger-root: %v", err)
	}
	w.absent = false
	if err := a.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.want(t, "banger-root is back", 3)
	pending(t, a)
	if w.open == nil {
		t.Error("nobody looks after the tap that is left")
	}
}

func TestMendWithoutRoot(t *testing.T) {
	w := &world{}
	w.run(t, w.attacher(), 3)
	w.absent = true
	b := w.attacher()
	prev := banger.Endpoint{Tap: "t" + string(tap(3).VM), GatewayMAC: "02:00:00:00:00:01", SSH: netip.AddrPortFrom(tap(3).Addr, 5122)}
	if ep, err := b.Attach(t.Context(), nic(3), &prev); err != nil || ep != prev {
		t.Errorf("%+v, %v", ep, err)
	}
	w.host = nil
	if _, err := b.Attach(t.Context(), nic(3), &prev); banger.CodeOf(err) != banger.NeedsRoot {
		t.Errorf("without its tap: %v", err)
	}
}

func TestPendingOnly(t *testing.T) {
	w := &world{}
	a := w.attacher()
	w.run(t, a, 3)
	w.die()
	detach(t, a, 3)
	w.records = nil
	pending(t, a, 3)
	w.absent = false
	dials := w.dials
	for range 3 {
		if err := a.Tend(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.want(t, "after all")
	if w.open != nil || w.dials != dials+1 {
		t.Errorf("connection %v, %d dials", w.open, w.dials-dials)
	}
}

func TestAskedAgain(t *testing.T) {
	w := &world{}
	a := w.attacher()
	w.run(t, a, 3)
	w.dies = 1
	w.run(t, a, 4)
	w.want(t, "after its death", 3, 4)
	w.dies = 1
	detach(t, a, 4)
	w.want(t, "after another", 3)
	if w.dials != 3 {
		t.Errorf("%d connections were made", w.dials)
	}
	w.dies = 1000
	if _, err := a.Attach(t.Context(), nic(5), nil); banger.CodeOf(err) != banger.NeedsRoot {
		t.Errorf("it dies each time: %v", err)
	}
}

func pending(t *testing.T, a *routed.Attacher, ids ...byte) {
	t.Helper()
	var want []string
	for _, n := range ids {
		want = append(want, "t"+string(tap(n).VM))
	}
	got, err := a.Pending(t.Context())
	got = slices.DeleteFunc(got, func(name string) bool { return name == "gateway" }) // goes with the last tap
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("pending %v, %v; want %v", got, err, want)
	}
}

func TestDiesAfterTheLastTap(t *testing.T) {
	w := &world{}
	a := w.attacher()
	w.run(t, a, 3)
	if got, err := a.Pending(t.Context()); err != nil || len(got) > 0 {
		t.Errorf("while a VM runs %v is pending, %v", got, err)
	}
	w.records, w.host = nil, nil
	w.die()
	if got, err := a.Pending(t.Context()); err != nil || !slices.Equal(got, []string{"gateway"}) {
		t.Errorf("pending: %v, %v", got, err)
	}
	w.absent = false
	if err := a.Tend(t.Context()); err != nil || w.gateway || w.open != nil {
		t.Errorf("after it: gateway %v, connection %v, %v", w.gateway, w.open, err)
	}
}
