package routed_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

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

// A daemon that is started anew takes no other VM's tap away when it mends one,
// and removes what was left of those that ended meanwhile.
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

// A VM that runs and has its tap is well without banger-root; one that lost its
// tap is not.
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

// What is left when nothing runs any more goes, too, and nobody is kept for it.
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

// A banger-root that dies over a request, or died before it unseen, is asked
// again where there is another one.
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

// What an Attach made that failed before there was a tap goes, too: with its own
// Detach, or with the next daemon.
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

// A Set that failed may have changed what no daemon sees: it is followed by one
// that does not.
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

// NAT needs an uplink that takes answers, and a banger-root that makes it.
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

// Whether a VM has NAT changes while it runs; without banger-root that is an error.
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

// The guest's card follows the smallest uplink when it boots, and not later.
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

// A banger-root that dies after the last tap went has left the rest: whoever
// finds the gateway's link takes it away.
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

// Guests are answered as long as there are taps, whoever runs and whoever dies.
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

// Published ports are had before anything is made, and are free once the VM is
// detached; a VM that runs goes on without one that was taken meanwhile.
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
