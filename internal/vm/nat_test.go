package vm_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"banger"
	"banger/internal/network"
	"banger/internal/vm"
)

// translated is a pretend network mode routed, in which NAT may be had.
type translated struct {
	nets
	t *translation
}

type translation struct {
	lacks  error // why NAT cannot be had
	broken error // why networks cannot be adjusted
	now    map[banger.VMID]bool
}

func (translated) Mode() banger.NetworkMode         { return banger.NetworkRouted }
func (n translated) CheckNAT(context.Context) error { return n.t.lacks }
func (n translated) Attach(ctx context.Context, c network.NIC, prev *banger.Endpoint) (banger.Endpoint, error) {
	n.t.now[c.VM] = c.NAT
	return n.nets.Attach(ctx, c, prev)
}

func (n translated) Adjust(_ context.Context, c network.NIC) error {
	if n.t.broken == nil {
		n.t.now[c.VM] = c.NAT
	}
	return n.t.broken
}

// heard keeps what users are told.
type heard struct {
	quiet
	mu    sync.Mutex
	lines []string
}

func (h *heard) Message(format string, a ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, fmt.Sprintf(format, a...))
}

func translating(t *testing.T) (*world, *translation) {
	w, tr := newWorld(t), &translation{now: map[banger.VMID]bool{}}
	w.configure = func(c *vm.Config) { c.Nets = append(c.Nets, translated{nets{w}, tr}) }
	return w, tr
}

var errNoUplink = banger.Errorf(banger.HostUnready, "no uplink").WithRemedy("plug it in")

// Who asked for NAT is told that it cannot be had, before anything is touched;
// who did not gets a VM without, and a line that says so.
func TestNATThatCannotBeHad(t *testing.T) {
	w, tr := translating(t)
	m := w.manager(nil)
	tr.lacks = errNoUplink
	before := w.String()
	_, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), Network: ptr("routed"), NAT: ptr(true)}, quiet{})
	if banger.CodeOf(err) != banger.HostUnready || banger.AsError(err).Remedy != "plug it in" || w.String() != before {
		t.Errorf("create: %v\n%s", err, w)
	}
	for name, no := range map[string]*bool{"a": nil, "b": ptr(false)} {
		h := &heard{}
		v, err := m.Create(t.Context(), vm.Create{Name: &name, Network: ptr("routed"), NAT: no}, h)
		if err != nil {
			t.Fatal(err)
		}
		told := len(h.lines) == 1 && strings.Contains(h.lines[0], "no uplink") && strings.Contains(h.lines[0], "plug it in")
		if want := no == nil; told != want || (v.NAT == banger.NATWanted) != want || tr.now[v.ID] != want {
			t.Errorf("%s: NAT %s, %v on the host; told %q", name, v.NAT, tr.now[v.ID], h.lines)
		}
	}
	if _, err := m.Set(t.Context(), "b", vm.Change{NAT: ptr(true)}); banger.CodeOf(err) != banger.HostUnready {
		t.Errorf("set: %v", err)
	}
	if v, err := m.Stop(t.Context(), "b", nil, quiet{}); err != nil || v.NAT != banger.NATOff {
		t.Errorf("after a set that failed: %s, %v", v.NAT, err)
	}
	// Stopped, it may want what cannot be had today; and not be started then.
	if v, err := m.Set(t.Context(), "b", vm.Change{NAT: ptr(true)}); err != nil || v.NAT != banger.NATRequired {
		t.Errorf("set of a stopped one: %s, %v", v.NAT, err)
	}
	if _, err := m.Start(t.Context(), "b", quiet{}); banger.CodeOf(err) != banger.HostUnready {
		t.Errorf("start: %v", err)
	}
	tr.lacks = nil
	if _, err := m.Start(t.Context(), "b", quiet{}); err != nil {
		t.Error(err)
	}
}

// NAT changes while a VM runs, or is as it was; and what the record says is what
// the next daemon makes.
func TestSetNATOfOneThatRuns(t *testing.T) {
	w, tr := translating(t)
	m := w.manager(nil)
	v, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), Network: ptr("routed")}, quiet{})
	if err != nil || v.NAT != banger.NATWanted || !tr.now[v.ID] {
		t.Fatalf("by default: %s, %v, %v", v.NAT, tr.now, err)
	}
	for _, want := range []bool{false, true, false} {
		s, err := m.Set(t.Context(), "web", vm.Change{NAT: &want})
		if err != nil || s.PID != v.PID || tr.now[v.ID] != want || (s.NAT == banger.NATRequired) != want {
			t.Errorf("%v: %s, %v on the host, %v", want, s.NAT, tr.now[v.ID], err)
		}
	}
	tr.broken = errBoom
	if _, err := m.Set(t.Context(), "web", vm.Change{NAT: ptr(true)}); !errors.Is(err, errBoom) {
		t.Errorf("err = %v", err)
	}
	if s, err := m.Show(t.Context(), "web"); err != nil || s.NAT != banger.NATOff {
		t.Errorf("recorded all the same: %s, %v", s.NAT, err)
	}
	if _, err := m.Set(t.Context(), "web", vm.Change{NAT: ptr(true), CPUs: ptr(1)}); banger.CodeOf(err) != banger.WrongState {
		t.Errorf("with what needs a stop: %v", err)
	}
	m.Close()
	tr.broken, tr.now[v.ID] = nil, true
	next := w.manager(nil)
	if err := next.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, next, func(v banger.VM) bool { return v.Ready })
	if tr.now[v.ID] {
		t.Error("the next daemon gives it NAT")
	}
}

// What each wish comes to in each mode, with the default on and off.
func TestNATByMode(t *testing.T) {
	for _, c := range []struct {
		network  string
		isolated bool
		ask      *bool
		noNAT    bool
		want     banger.NAT // "": refused
	}{
		{"routed", false, nil, false, banger.NATWanted},
		{"routed", true, nil, false, banger.NATWanted},
		{"routed", false, nil, true, banger.NATOff},
		{"routed", false, ptr(true), true, banger.NATRequired},
		{"routed", false, ptr(false), false, banger.NATOff},
		{"user", false, nil, true, banger.NATWanted},
		{"user", true, nil, false, banger.NATWanted},
		{"user", false, ptr(true), false, banger.NATRequired},
		{"user", true, ptr(true), false, ""},
		{"user", false, ptr(false), false, ""},
		{"user", true, ptr(false), false, banger.NATOff},
	} {
		w, _ := translating(t)
		inner := w.configure
		w.configure = func(v *vm.Config) { inner(v); v.NoNAT = c.noNAT }
		m := w.manager(nil)
		v, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), Network: &c.network, Isolated: &c.isolated, NAT: c.ask, NoStart: true}, quiet{})
		if v.NAT != c.want || (err != nil) != (c.want == "") || err != nil && (banger.CodeOf(err) != banger.Invalid || banger.AsError(err).Remedy == "") {
			t.Errorf("%+v: %q, %v", c, v.NAT, err)
		}
	}
	// From mode to mode: a default is the mode's, a wish stays, and "off" is not
	// silently given up.
	w, _ := translating(t)
	inner := w.configure
	w.configure = func(v *vm.Config) { inner(v); v.NoNAT = true }
	m := w.manager(nil)
	if _, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), Network: ptr("user"), NoStart: true}, quiet{}); err != nil {
		t.Fatal(err)
	}
	if v, err := m.Set(t.Context(), "web", vm.Change{Network: ptr("routed")}); err != nil || v.NAT != banger.NATOff {
		t.Errorf("to routed: %s, %v", v.NAT, err)
	}
	if _, err := m.Set(t.Context(), "web", vm.Change{Network: ptr("user")}); banger.CodeOf(err) != banger.Invalid {
		t.Errorf("back, without NAT: %v", err)
	}
	if v, err := m.Set(t.Context(), "web", vm.Change{Network: ptr("user"), NAT: ptr(true)}); err != nil || v.NAT != banger.NATRequired {
		t.Errorf("back, with NAT: %s, %v", v.NAT, err)
	}
}
