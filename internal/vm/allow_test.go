package vm_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"banger"
	"banger/internal/network"
	"banger/internal/vm"
)

// reaching is a pretend network mode routed that keeps what each VM may reach.
type reaching struct {
	translated
	r *reached
}

type reached struct {
	broken error
	now    map[banger.VMID]network.NIC
}

func (n reaching) Attach(ctx context.Context, c network.NIC, prev *banger.Endpoint) (banger.Endpoint, error) {
	n.r.now[c.VM] = c
	return n.nets.Attach(ctx, c, prev)
}

func (n reaching) Adjust(_ context.Context, c network.NIC) error {
	if n.r.broken == nil {
		n.r.now[c.VM] = c
	}
	return n.r.broken
}

func reachable(t *testing.T) (*world, *reached) {
	w, r := newWorld(t), &reached{now: map[banger.VMID]network.NIC{}}
	w.configure = func(c *vm.Config) { c.Nets = append(c.Nets, reaching{translated{nets{w}, &translation{}}, r}) }
	return w, r
}

func let(ports ...banger.HostPort) *[]banger.HostPort { return &ports }

var (
	postgres = banger.HostPort{Port: 5432, Proto: banger.TCP}
	syslog   = banger.HostPort{Port: 514, Proto: banger.UDP}
)

// What a VM reaches changes while it runs, or is as it was; and what the record says is
// what the next daemon makes.
func TestReachOfOneThatRuns(t *testing.T) {
	w, r := reachable(t)
	m := w.manager(nil)
	v, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), Network: ptr("routed"), AllowHost: let(postgres)}, quiet{})
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, v banger.VM, err error, isolated bool, ports ...banger.HostPort) {
		t.Helper()
		now := r.now[v.ID]
		if err != nil || v.Isolated != isolated || now.Isolated != isolated || !slices.Equal(v.AllowHost, ports) || !slices.Equal(now.Allow, ports) {
			t.Errorf("%s: %t %v, on the host %t %v; %v", what, v.Isolated, v.AllowHost, now.Isolated, now.Allow, err)
		}
	}
	set := func(c vm.Change) (banger.VM, error) { return m.Set(t.Context(), "web", c) }
	check("created", v, nil, false, postgres)
	s, err := set(vm.Change{AllowHost: let(syslog, postgres)})
	check("two", s, err, false, syslog, postgres)
	s, err = set(vm.Change{Isolated: ptr(true)})
	check("isolated", s, err, true, syslog, postgres)
	s, err = set(vm.Change{AllowHost: let()})
	check("none", s, err, true)
	if s.PID != v.PID {
		t.Error("it was started anew")
	}
	r.broken = errBoom
	if _, err = set(vm.Change{AllowHost: let(postgres), Isolated: ptr(false)}); !errors.Is(err, errBoom) {
		t.Errorf("err = %v", err)
	}
	s, err = m.Show(t.Context(), "web")
	check("after one that failed", s, err, true)
	if _, err = set(vm.Change{AllowHost: let(postgres), CPUs: ptr(1)}); banger.CodeOf(err) != banger.WrongState {
		t.Errorf("with what needs a stop: %v", err)
	}
	r.broken = nil
	s, err = set(vm.Change{AllowHost: let(postgres)})
	check("again", s, err, true, postgres)
	m.Close()
	r.now = map[banger.VMID]network.NIC{}
	next := w.manager(nil)
	if err := next.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, next, func(v banger.VM) bool { return v.Ready })
	s, err = next.Show(t.Context(), "web")
	check("under the next daemon", s, err, true, postgres)
}

// What makes no sense is refused before anything is written, and so is what mode user
// cannot do, also where the mode is chosen.
func TestAllowIsChecked(t *testing.T) {
	w, _ := reachable(t)
	inner := w.configure
	w.configure = func(c *vm.Config) { inner(c); c.Nets = c.Nets[:1] } // nothing but mode user
	user := w.manager(nil)
	before := w.String()
	for _, mode := range []string{"auto", "user"} {
		_, err := user.Create(t.Context(), vm.Create{Name: ptr("web"), Network: &mode, AllowHost: let(postgres)}, quiet{})
		if e := banger.AsError(err); e == nil || e.Code != banger.Invalid || !strings.Contains(e.Remedy, "--network routed") || w.String() != before {
			t.Errorf("%s: %v\n%s", mode, err, w)
		}
	}
	w.configure = inner
	m := w.manager(nil)
	var many []banger.HostPort
	for n := range network.MaxAllow + 1 {
		many = append(many, banger.HostPort{Port: uint16(n + 1), Proto: banger.UDP})
	}
	if _, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), Network: ptr("routed"), NoStart: true}, quiet{}); err != nil {
		t.Fatal(err)
	}
	before = w.String()
	for name, ports := range map[string]*[]banger.HostPort{
		"port 0": let(banger.HostPort{Proto: banger.TCP}), "no protocol": let(banger.HostPort{Port: 80}), "sctp": let(banger.HostPort{Port: 80, Proto: "sctp"}),
		"twice": let(postgres, syslog, postgres), "too many": &many,
	} {
		if err := m.Check(vm.Create{AllowHost: ports}); banger.CodeOf(err) != banger.Invalid {
			t.Errorf("%s: check: %v", name, err)
		}
		if _, err := m.Set(t.Context(), "web", vm.Change{AllowHost: ports}); banger.CodeOf(err) != banger.Invalid || w.String() != before {
			t.Errorf("%s: set: %v", name, err)
		}
	}
	if _, err := m.Set(t.Context(), "web", vm.Change{AllowHost: let(postgres)}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Set(t.Context(), "web", vm.Change{Network: ptr("user")}); banger.CodeOf(err) != banger.Invalid {
		t.Errorf("to mode user: %v", err)
	}
	if v, err := m.Set(t.Context(), "web", vm.Change{Network: ptr("user"), AllowHost: let()}); err != nil || len(v.AllowHost) != 0 {
		t.Errorf("to mode user, without: %v, %v", v.AllowHost, err)
	}
}

// By default VMs of mode routed are isolated where the configuration says so; those of
// mode user are not, since there it means more.
func TestIsolatedByDefault(t *testing.T) {
	w, _ := reachable(t)
	inner := w.configure
	w.configure = func(c *vm.Config) { inner(c); c.Isolate = true }
	m := w.manager(nil)
	for _, c := range []struct {
		name, network string
		ask           *bool
		want          bool
	}{{"a", "routed", nil, true}, {"b", "routed", ptr(false), false}, {"c", "user", nil, false}, {"d", "user", ptr(true), true}} {
		v, err := m.Create(t.Context(), vm.Create{Name: &c.name, Network: &c.network, Isolated: c.ask, NoStart: true}, quiet{})
		if err != nil || v.Isolated != c.want {
			t.Errorf("%+v: %t, %v", c, v.Isolated, err)
		}
	}
	for name, want := range map[string]bool{"c": true, "b": false} {
		v, err := m.Set(t.Context(), name, vm.Change{Network: ptr("routed")})
		if err != nil || v.Isolated != want {
			t.Errorf("%s: %t, %v", name, v.Isolated, err)
		}
	}
}
