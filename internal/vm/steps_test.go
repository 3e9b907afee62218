package vm_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"banger"
	"banger/internal/steps"
	"banger/internal/vm"
)

// A point is one call of the hook.
type point struct {
	step string
	at   steps.Phase
}

func (p point) String() string { return string(p.at) + " " + p.step }

// points runs do with a hook that only listens, and returns all calls: the
// code's own list, so that a new step is a new case.
func points(t *testing.T, do func(w *world, m *vm.Manager)) []point {
	t.Helper()
	var mu sync.Mutex
	var all []point
	w := newWorld(t)
	do(w, w.manager(func(_ banger.VMID, step string, at steps.Phase) error {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, point{step, at})
		return nil
	}))
	return all
}

func create(t *testing.T, m *vm.Manager) {
	t.Helper()
	if _, err := m.Create(t.Context(), vm.Create{Name: ptr("web")}, quiet{}); err != nil {
		t.Fatal(err)
	}
}

var errBoom = errors.New("boom")

// failAt fails one point, once.
func failAt(p point) func(banger.VMID, string, steps.Phase) error {
	var once sync.Once
	return func(_ banger.VMID, step string, at steps.Phase) (err error) {
		if step == p.step && at == p.at {
			once.Do(func() { err = errBoom })
		}
		return err
	}
}

// A create that fails anywhere leaves the world as it was.
func TestFailEveryStepOfCreate(t *testing.T) {
	all := points(t, func(_ *world, m *vm.Manager) { create(t, m) })
	if len(all) != 2*8 {
		t.Fatalf("create has %d points: %v", len(all), all)
	}
	for _, p := range all {
		t.Run(p.String(), func(t *testing.T) {
			w := newWorld(t)
			before := w.String()
			_, err := w.manager(failAt(p)).Create(t.Context(), vm.Create{Name: ptr("web")}, quiet{})
			if !errors.Is(err, errBoom) || !strings.Contains(err.Error(), p.step) {
				t.Errorf("err = %v", err)
			}
			if after := w.String(); after != before {
				t.Errorf("left behind:\n%s", after)
			}
		})
	}
}

// The same, when the user cancels instead.
func TestCancelEveryStepOfCreate(t *testing.T) {
	for _, p := range points(t, func(_ *world, m *vm.Manager) { create(t, m) }) {
		t.Run(p.String(), func(t *testing.T) {
			w := newWorld(t)
			before := w.String()
			ctx, cancel := context.WithCancel(t.Context())
			last := p == point{"guest", steps.AfterEnsure} // then it is done: too late to cancel
			_, err := w.manager(func(_ banger.VMID, step string, at steps.Phase) error {
				if step == p.step && at == p.at {
					cancel()
				}
				return nil
			}).Create(ctx, vm.Create{Name: ptr("web")}, quiet{})
			cancel()
			if last {
				return
			}
			if banger.CodeOf(err) != banger.Canceled {
				t.Errorf("err = %v", err)
			}
			if after := w.String(); after != before {
				t.Errorf("left behind:\n%s", after)
			}
		})
	}
}

// A start that fails anywhere leaves a stopped VM that can be started.
func TestFailEveryStepOfStart(t *testing.T) {
	start := func(w *world, m *vm.Manager) {
		if _, err := m.Start(t.Context(), "web", quiet{}); err != nil {
			t.Error(err)
		}
	}
	prepare := func(w *world) {
		if _, err := w.manager(nil).Create(t.Context(), vm.Create{Name: ptr("web"), NoStart: true}, quiet{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range points(t, func(w *world, m *vm.Manager) { prepare(w); start(w, m) }) {
		t.Run(p.String(), func(t *testing.T) {
			w := newWorld(t)
			prepare(w)
			before := w.String()
			m := w.manager(failAt(p))
			if _, err := m.Start(t.Context(), "web", quiet{}); !errors.Is(err, errBoom) {
				t.Errorf("err = %v", err)
			}
			if after := w.String(); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			if v, _ := m.Show(t.Context(), "web"); v.State != banger.StateError || v.Problem == nil {
				t.Errorf("state %s, problem %v", v.State, v.Problem)
			}
			start(w, m)
		})
	}
}

// A release that fails is heard, and a second try finishes the work.
func TestFailEveryRelease(t *testing.T) {
	remove := func(m *vm.Manager) error {
		_, err := m.Delete(t.Context(), "web", true, quiet{})
		return err
	}
	var releases []point
	for _, p := range points(t, func(_ *world, m *vm.Manager) { create(t, m); remove(m) }) {
		if p.at == steps.BeforeRelease || p.at == steps.AfterRelease {
			releases = append(releases, p)
		}
	}
	if len(releases) != 2*8 {
		t.Fatalf("delete has %d points: %v", len(releases), releases)
	}
	for _, p := range releases {
		t.Run(p.String(), func(t *testing.T) {
			w := newWorld(t)
			before := w.String()
			m := w.manager(failAt(p))
			create(t, m)
			if err := remove(m); !errors.Is(err, errBoom) {
				t.Errorf("err = %v", err)
			}
			if err := remove(m); err != nil {
				t.Errorf("second try: %v", err)
			}
			if after := w.String(); after != before {
				t.Errorf("left behind:\n%s", after)
			}
		})
	}
}

// A daemon that is killed anywhere is put right by the next one's Reconcile:
// the VM is what its intent says, and can be deleted without a trace.
func TestDieEverywhere(t *testing.T) {
	life := func(t *testing.T, m *vm.Manager) {
		create(t, m)
		if _, err := m.Stop(t.Context(), "web", nil, quiet{}); err != nil {
			t.Error(err)
		}
		if _, err := m.Reset(t.Context(), "web", quiet{}); err != nil {
			t.Error(err)
		}
		if _, err := m.Start(t.Context(), "web", quiet{}); err != nil {
			t.Error(err)
		}
		if _, err := m.Delete(t.Context(), "web", true, quiet{}); err != nil {
			t.Error(err)
		}
	}
	for i, p := range points(t, func(_ *world, m *vm.Manager) { life(t, m) }) {
		t.Run(fmt.Sprint(i, " ", p), func(t *testing.T) {
			w := newWorld(t)
			before := w.String()
			first := w.manager(dieAtNth(i))
			var dying sync.WaitGroup
			dying.Go(func() { life(t, first) })
			dying.Wait()
			next := w.manager(nil)
			if err := next.Reconcile(t.Context()); err != nil {
				t.Fatal(err)
			}
			vms, err := next.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range vms {
				checkSound(t, w, next, v)
				if _, err := next.Delete(t.Context(), v.Name, true, quiet{}); err != nil {
					t.Error(err)
				}
			}
			if after := w.String(); after != before {
				t.Errorf("left behind:\n%s", after)
			}
		})
	}
}

// dieAtNth ends the goroutine that works at its nth point, as SIGKILL would end
// the daemon: nothing is undone, nothing more is recorded.
func dieAtNth(n int) func(banger.VMID, string, steps.Phase) error {
	var mu sync.Mutex
	calls := 0
	return func(banger.VMID, string, steps.Phase) error {
		mu.Lock()
		calls++
		die := calls == n+1
		mu.Unlock()
		if die {
			runtime.Goexit()
		}
		return nil
	}
}

// checkSound holds what is there against what the VM is said to be.
func checkSound(t *testing.T, w *world, m *vm.Manager, v banger.VM) {
	t.Helper()
	if disk := "disk " + string(v.ID); !strings.Contains(w.String(), disk) {
		t.Errorf("its disk is missing:\n%s", w)
	}
	switch v.State {
	case banger.StateRunning:
		if _, err := m.Wait(t.Context(), v.Name, vm.ForReady, 0); err != nil {
			t.Error(err)
		}
		if !strings.Contains(w.String(), "vmm of") {
			t.Errorf("runs without a VMM:\n%s", w)
		}
	case banger.StateStopped:
		for _, thing := range []string{"vmm of", "network", "attached", "connection", "path r/", "run=true"} {
			if strings.Contains(w.String(), thing) {
				t.Errorf("stopped, yet there is %q:\n%s", thing, w)
			}
		}
	default:
		t.Errorf("state %s: %+v", v.State, v.Problem)
	}
}
