package routed_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"banger"
	"banger/internal/network"
	"banger/internal/network/routed"
)

// A world is the records and a host that a pretend banger-root works on.
type world struct {
	records []network.Tap // of VMs with a run
	host    []network.Tap
	absent  bool  // banger-root does not run
	old     error // what it says of NAT
	uplinks []network.Uplink
	names   bool  // guests are answered
	broken  error // what Set says
	half    bool  // it comes as far as the gateway's link
	dies    int   // so many times at a request
	gateway bool  // the host has its link
	open    *root // the connection that is held
	dials   int
	asks    netip.AddrPort // where the host is to ask
	told    netip.AddrPort // what the host's resolver knows
	deaf    error          // why it cannot be told
	hangs   chan struct{}  // until it is closed the resolver answers nobody; nil: it does
	noPorts error          // why ports are not led
	led     []uint16       // the guests' ports that are
	sets    int
	during  func() // what happens while it sets
}

type root struct {
	w    *world
	done chan struct{}
}

var errNone = banger.Errorf(banger.NeedsRoot, "banger-root does not run")

func (w *world) attacher() *routed.Attacher {
	return routed.New(routed.Config{
		Tag: "ab12", Subnet: func() network.Subnet { return network.SubnetOf(netip.MustParsePrefix("10.9.0.0/20")) }, Port: 5122,
		Dial: func(context.Context) (routed.Root, error) {
			if w.absent {
				return nil, errNone
			}
			w.dials++
			w.open = &root{w, make(chan struct{})}
			return w.open, nil
		},
		Wanted: func(context.Context) ([]network.Tap, error) { return slices.Clone(w.records), nil },
		There: func() (names []string, _ error) {
			for _, t := range w.host {
				names = append(names, "t"+string(t.VM))
			}
			if w.gateway {
				names = append(names, "gateway")
			}
			return names, nil
		},
		Gateway: "gateway",
		Tap:     func(id banger.VMID) string { return "t" + string(id) },
		MAC:     func(banger.VMID) string { return "02:00:00:00:00:01" },
		Uplinks: func() ([]network.Uplink, error) { return w.uplinks, nil },
		Names: func(wanted bool) uint16 {
			w.names = wanted
			if wanted {
				return 5353
			}
			return 0
		},
		HostAsks: func() netip.AddrPort { return w.asks },
		Log:      slog.New(slog.DiscardHandler),
	})
}

func (r *root) Probe(context.Context) error { return nil }
func (r *root) NAT() error                  { return r.w.old }
func (r *root) Resolve(_ context.Context, tag string, at netip.AddrPort) error {
	if r.w.hangs != nil {
		<-r.w.hangs
	}
	if tag != "ab12" {
		return errors.New("another installation")
	}
	if r.w.deaf == nil {
		r.w.told = at
	}
	return r.w.deaf
}
func (r *root) Done() <-chan struct{} { return r.done }
func (r *root) Close() error {
	if r.w.open == r {
		r.w.open = nil
	}
	return nil
}
func (r *root) Set(_ context.Context, c network.Config) error {
	if c.Tag != "ab12" || c.Subnet.String() != "10.9.0.0/20" || (c.Names == 5353) != (len(c.Taps) > 0) {
		return errors.New("another installation")
	}
	if r.w.during != nil {
		r.w.during()
	}
	if r.w.dies > 0 {
		r.w.dies--
		close(r.done)
		return errNone
	}
	if r.w.broken != nil {
		r.w.gateway = r.w.gateway || r.w.half
		return r.w.broken
	}
	if r.w.noPorts != nil && len(c.Ports) > 0 {
		return r.w.noPorts
	}
	r.w.host, r.w.gateway = slices.Clone(c.Taps), len(c.Taps) > 0
	r.w.led = nil
	for _, p := range c.Ports {
		r.w.led = append(r.w.led, p.Guest)
	}
	r.w.sets++
	return nil
}

// die is banger-root's sudden end.
func (w *world) die() { close(w.open.done); w.absent = true }

func (w *world) there() (ids []banger.VMID) {
	for _, t := range w.host {
		ids = append(ids, t.VM)
	}
	return ids
}

func tap(n byte) network.Tap {
	return network.Tap{VM: banger.VMID("0000000" + string('0'+rune(n))), Addr: netip.AddrFrom4([4]byte{10, 9, 0, n})}
}

func nic(n byte) network.NIC { return network.NIC{VM: tap(n).VM, Addr: tap(n).Addr} }

// run is what a VM's start does: the run is recorded before the tap is made.
func (w *world) run(t *testing.T, a *routed.Attacher, n byte) {
	t.Helper()
	w.records = append(w.records, tap(n))
	ep, err := a.Attach(t.Context(), nic(n), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := banger.Endpoint{Tap: "t" + string(tap(n).VM), GatewayMAC: "02:00:00:00:00:01", SSH: netip.AddrPortFrom(tap(n).Addr, 5122)}
	if ep != want {
		t.Errorf("endpoint %+v, want %+v", ep, want)
	}
}

func detach(t *testing.T, a *routed.Attacher, n byte) {
	t.Helper()
	if err := a.Detach(t.Context(), nic(n)); err != nil {
		t.Fatal(err)
	}
}

func (w *world) want(t *testing.T, what string, ids ...byte) {
	t.Helper()
	var want []banger.VMID
	for _, n := range ids {
		want = append(want, tap(n).VM)
	}
	if got := w.there(); !slices.Equal(got, want) {
		t.Errorf("%s: the host has %v, want %v", what, got, want)
	}
}

// A daemon that is started anew takes no other VM's tap away when it mends one,
// and removes what was left of those that ended meanwhile.
// A VM that runs and has its tap is well without banger-root; one that lost its
// tap is not.
// What is left when nothing runs any more goes, too, and nobody is kept for it.
// A banger-root that dies over a request, or died before it unseen, is asked
// again where there is another one.
// What an Attach made that failed before there was a tap goes, too: with its own
// Detach, or with the next daemon.
// A Set that failed may have changed what no daemon sees: it is followed by one
// that does not.
// NAT needs an uplink that takes answers, and a banger-root that makes it.
// Whether a VM has NAT changes while it runs; without banger-root that is an error.
// The guest's card follows the smallest uplink when it boots, and not later.
// A banger-root that dies after the last tap went has left the rest: whoever
// finds the gateway's link takes it away.
// Guests are answered as long as there are taps, whoever runs and whoever dies.
// Published ports are had before anything is made, and are free once the VM is
// detached; a VM that runs goes on without one that was taken meanwhile.
