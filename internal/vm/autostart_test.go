package vm_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"banger"
	"banger/internal/steps"
	"banger/internal/vm"
)

// booted is the first daemon after a boot of the host; done says that all VMs
// that are due have been begun.
func (w *world) booted(hook func(banger.VMID, string, steps.Phase) error) (m *vm.Manager, done chan struct{}) {
	done = make(chan struct{})
	w.configure = func(c *vm.Config) { c.Autostart, c.Autostarted = true, func() { close(done) } }
	defer func() { w.configure = nil }()
	return w.manager(hook), done
}

// reboot ends all VMMs, as the host's end does.
func (w *world) reboot() {
	w.mu.Lock()
	procs := slices.Collect(maps.Values(w.procs))
	w.mu.Unlock()
	for _, p := range procs {
		p.end(banger.Exit{Cause: banger.ExitUnknown})
	}
}

func await(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: never", what)
	}
}

// After a boot of the host VMs with autostart run, whatever they did before it,
// the others do not; a later daemon leaves alone what was stopped since.
func TestAutostartAfterBoot(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	for name, c := range map[string]vm.Create{
		"stopped": {Autostart: ptr(true), NoStart: true}, "ran": {Autostart: ptr(true)},
		"plain": {}, "idle": {NoStart: true},
	} {
		c.Name = ptr(name)
		if _, err := m.Create(t.Context(), c, quiet{}); err != nil {
			t.Fatal(err)
		}
	}
	m.Close()
	w.reboot()

	next, done := w.booted(nil)
	if err := next.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "all are begun", done)
	for _, name := range []string{"stopped", "ran"} {
		if v, err := next.Wait(t.Context(), name, vm.ForReady, 10*time.Second); err != nil {
			t.Errorf("%s: %v, %+v", name, err, v)
		}
	}
	for _, name := range []string{"plain", "idle"} {
		if v, err := next.Show(t.Context(), name); err != nil || v.State != banger.StateStopped {
			t.Errorf("%s: %s, %v", name, v.State, err)
		}
	}
	if _, err := next.Stop(t.Context(), "stopped", nil, quiet{}); err != nil {
		t.Fatal(err)
	}
	next.Close()
	last := w.manager(nil)
	if err := last.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, err := last.Show(t.Context(), "stopped"); err != nil || v.State != banger.StateStopped {
		t.Errorf("what was stopped is %s, %v", v.State, err)
	}
}

// A VMM that vanished while no daemon ran, in the same boot of the host, is
// started again with autostart only.
func TestAutostartVanished(t *testing.T) {
	for _, auto := range []bool{true, false} {
		w := newWorld(t)
		m := w.manager(nil)
		if _, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), Autostart: ptr(auto)}, quiet{}); err != nil {
			t.Fatal(err)
		}
		p := w.only(t)
		m.Close()
		p.end(banger.Exit{Cause: banger.ExitUnknown})
		next := w.manager(nil)
		if err := next.Reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		if auto {
			wait(t, next, vm.ForReady)
		} else {
			wait(t, next, vm.ForStopped)
		}
		if v, _ := next.Show(t.Context(), "web"); v.LastExit == nil || v.LastExit.Cause != banger.ExitUnknown {
			t.Errorf("exit %+v", v.LastExit)
		}
	}
}

// One that cannot start is shown with its problem, and the daemon listens.
func TestAutostartFails(t *testing.T) {
	w := newWorld(t)
	if _, err := w.manager(nil).Create(t.Context(), vm.Create{Name: ptr("web"), Autostart: ptr(true), NoStart: true}, quiet{}); err != nil {
		t.Fatal(err)
	}
	m, done := w.booted(failAt(point{"network", steps.BeforeEnsure}))
	if err := m.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "it was begun", done)
	v := wait(t, m, vm.ForStopped)
	if v.State != banger.StateError || v.Problem == nil || !strings.Contains(v.Problem.Message, "boom") {
		t.Errorf("state %s, problem %+v", v.State, v.Problem)
	}
}

// A name and autostart may change while the VM runs; its record follows, and
// nothing of the run is touched.
func TestSetWhileRunning(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	p := w.only(t)
	before, _ := m.Show(t.Context(), "web")
	v, err := m.Set(t.Context(), "web", vm.Change{Name: ptr("shop"), Autostart: ptr(true)})
	if err != nil || v.Name != "shop" || !v.Autostart || v.ID != before.ID || v.Lease != before.Lease || !v.Ready {
		t.Errorf("%+v, %v", v, err)
	}
	if w.only(t) != p {
		t.Error("another VMM")
	}
	if _, err := m.Show(t.Context(), "web"); banger.CodeOf(err) != banger.NotFound {
		t.Errorf("the old name: %v", err)
	}
	if _, err := m.Create(t.Context(), vm.Create{Name: ptr("other"), NoStart: true}, quiet{}); err != nil {
		t.Fatal(err)
	}
	for name, code := range map[string]banger.Code{"other": banger.Exists, "Web_1": banger.Invalid, "0a1b2c3d": banger.Invalid, "": banger.Invalid} {
		if _, err := m.Set(t.Context(), "shop", vm.Change{Name: ptr(name), Autostart: ptr(false)}); banger.CodeOf(err) != code {
			t.Errorf("rename to %q: %v", name, err)
		}
	}
	if v, _ := m.Show(t.Context(), "shop"); !v.Autostart {
		t.Error("a change that was refused was made in part")
	}
}
