package vm_test

import (
	"context"
	"testing"

	"banger"
	"banger/internal/network"
	"banger/internal/storage"
	"banger/internal/vm"
)

// Whoever can start banger-root is asked to for a VM that would be another with it, until
// it was tried in vain.
func TestOffer(t *testing.T) {
	w, _, noTaps := choosyWorld(t)
	m := w.manager(nil)
	*noTaps = banger.Errorf(banger.NeedsRoot, "no banger-root").WithRemedy("start it")
	made := func(c vm.Create) string {
		t.Helper()
		c.NoStart = true
		v, err := m.Create(t.Context(), c, quiet{})
		if err != nil {
			return string(banger.CodeOf(err))
		}
		return v.Backend + " " + string(v.Network)
	}
	for _, c := range []struct {
		ask  vm.Create
		want string
	}{
		{vm.Create{}, "pretend user"},
		{vm.Create{Root: vm.Offered}, "needs_root"},
		{vm.Create{Root: vm.Offered, Backend: ptr("pretend")}, "needs_root"}, // it would be routed
		{vm.Create{Root: vm.Offered, Network: ptr("user")}, "pretend user"},
		{vm.Create{Root: vm.Offered, Isolated: ptr(true), Backend: ptr("pretend")}, "pretend user"},
		{vm.Create{Root: "maybe"}, "invalid"},
		{vm.Create{Root: vm.Refused}, "pretend user"},
		{vm.Create{Root: vm.Offered}, "pretend user"},
	} {
		if got := made(c.ask); got != c.want {
			t.Errorf("%+v: %s, want %s", c.ask, got, c.want)
		}
	}
	*noTaps = nil
	if got := made(vm.Create{Root: vm.Offered}); got != "choosy routed" {
		t.Errorf("with a banger-root: %s", got)
	}
}

// mapped are disks that need banger-root.
type mapped struct {
	disks
	unusable *error
}

func (mapped) Name() string                          { return "mapped" }
func (d mapped) Probe(context.Context, string) error { return *d.unusable }

// A VM that needs banger-root at each start anyway is not made, nor reset, with a disk
// that is another than it would be with one: nothing is touched.
func TestDiskThatNeedsRoot(t *testing.T) {
	w := newWorld(t)
	why, none := error(nil), error(nil)
	w.configure = func(c *vm.Config) {
		c.Nets = append(c.Nets, network.Attacher(taps{nets{w}, &none}))
		c.Disks = []storage.Strategy{mapped{disks{w}, &why}, disks{w}}
	}
	m := w.manager(nil)
	ask := func(name, network string) error {
		_, err := m.Create(t.Context(), vm.Create{Name: &name, Network: &network, NoStart: true}, quiet{})
		return err
	}
	if err := ask("web", "routed"); err != nil {
		t.Fatal(err)
	}
	before := w.String()
	why = banger.Errorf(banger.NeedsRoot, "no banger-root").WithRemedy("start it")
	if err := ask("db", "routed"); banger.CodeOf(err) != banger.NeedsRoot {
		t.Errorf("create: %v", err)
	}
	if _, err := m.Reset(t.Context(), "web", quiet{}); banger.CodeOf(err) != banger.NeedsRoot {
		t.Errorf("reset: %v", err)
	}
	if after := w.String(); after != before {
		t.Errorf("changed the world:\n%s\nto\n%s", before, after)
	}
	if err := ask("local", "user"); err != nil {
		t.Errorf("of mode user: %v", err)
	}
	why = banger.Errorf(banger.HostUnready, "no device mapper").WithRemedy("get one")
	if err := ask("db", "routed"); err != nil {
		t.Errorf("where banger-root would not help: %v", err)
	}
}
