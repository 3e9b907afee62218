package vm_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"banger"
	"banger/internal/steps"
	"banger/internal/vm"
)

// left is a world in which a VM has outlived its daemon.
func left(t *testing.T) (*world, *process) {
	t.Helper()
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	p := w.only(t)
	m.Close()
	return w, p
}

// until looks at the VM until it is as wanted.
func until(t *testing.T, m *vm.Manager, wanted func(banger.VM) bool) banger.VM {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		v, err := m.Show(ctx, "web")
		if err != nil {
			t.Fatal(err)
		}
		if wanted(v) {
			return v
		}
	}
}

// A living VM is mended, never ended: a repair that fails anywhere is shown, and
// the next daemon's makes it good.
func TestFailEveryStepOfMend(t *testing.T) {
	var mu sync.Mutex
	var all []point
	w, _ := left(t)
	m := w.manager(func(_ banger.VMID, step string, at steps.Phase) error {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, point{step, at})
		return nil
	})
	if err := m.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, m, vm.ForReady)
	m.Close() // no more points
	if len(all) != 2*5 {
		t.Fatalf("a repair has %d points: %v", len(all), all)
	}
	for _, p := range all {
		t.Run(p.String(), func(t *testing.T) {
			w, lives := left(t)
			m := w.manager(failAt(p))
			if err := m.Reconcile(t.Context()); err != nil {
				t.Fatal(err)
			}
			v := until(t, m, func(v banger.VM) bool { return v.Problem != nil })
			if v.State != banger.StateRunning || !strings.Contains(v.Problem.Message, "mend "+p.step) || !strings.Contains(v.Problem.Message, "boom") {
				t.Errorf("state %s, problem %+v", v.State, v.Problem)
			}
			if _, err := m.Reachable(t.Context(), "web"); err != nil {
				t.Errorf("nothing can be run in it: %v", err)
			}
			if w.only(t) != lives {
				t.Error("another VMM")
			}
			m.Close()
			next := w.manager(nil)
			if err := next.Reconcile(t.Context()); err != nil {
				t.Fatal(err)
			}
			until(t, next, func(v banger.VM) bool { return v.Problem == nil && v.Ready })
			if w.only(t) != lives {
				t.Error("another VMM after the second repair")
			}
		})
	}
}
