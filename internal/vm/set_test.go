package vm_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"banger"
	"banger/internal/steps"
	"banger/internal/vm"
)

const larger = 8 << 30

// stopped makes a VM that was never started.
func stopped(t *testing.T, w *world) {
	t.Helper()
	if _, err := w.manager(nil).Create(t.Context(), vm.Create{Name: ptr("web"), NoStart: true}, quiet{}); err != nil {
		t.Fatal(err)
	}
}

func grow(ctx context.Context, m *vm.Manager) error {
	_, err := m.Set(ctx, "web", vm.Change{Disk: ptr(int64(larger)), WorkDisk: ptr(int64(larger)), CPUs: ptr(1)})
	return err
}

// agree fails unless the disks are as large as the VM is said to have them.
func agree(t *testing.T, w *world, m *vm.Manager) banger.VM {
	t.Helper()
	v, err := m.Stop(t.Context(), "web", nil, quiet{}) // behind the VM's lock
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if have := w.sizes[v.ID]; have != v.Disk {
		t.Errorf("the disk has %d bytes, the VM is said to have %d", have, v.Disk)
	}
	if have := w.works[v.ID]; have != v.WorkDisk {
		t.Errorf("the work disk has %d bytes, the VM is said to have %d", have, v.WorkDisk)
	}
	return v
}

func pointsOfSet(t *testing.T) []point {
	t.Helper()
	all := points(t, func(w *world, m *vm.Manager) {
		stopped(t, w)
		if err := grow(t.Context(), m); err != nil {
			t.Error(err)
		}
	})
	if len(all) != 2 {
		t.Fatalf("set has %d points: %v", len(all), all)
	}
	return all
}

// A change that fails anywhere is not made, but for a disk that has grown; and
// can be asked for again.
func TestFailEveryStepOfSet(t *testing.T) {
	for _, p := range pointsOfSet(t) {
		t.Run(p.String(), func(t *testing.T) {
			w := newWorld(t)
			stopped(t, w)
			m := w.manager(failAt(p))
			if err := grow(t.Context(), m); !errors.Is(err, errBoom) {
				t.Errorf("err = %v", err)
			}
			if v := agree(t, w, m); v.CPUs != 2 {
				t.Errorf("%d CPUs", v.CPUs)
			}
			if err := grow(t.Context(), m); err != nil {
				t.Error(err)
			}
			if v := agree(t, w, m); v.Disk != larger || v.WorkDisk != larger || v.CPUs != 1 {
				t.Errorf("the second time: %+v", v.Spec)
			}
		})
	}
}

func TestSetThatCannotBeRecorded(t *testing.T) {
	w := newWorld(t)
	stopped(t, w)
	m := w.manager(nil)
	w.broken = errBoom
	if err := grow(t.Context(), m); !errors.Is(err, errBoom) {
		t.Errorf("err = %v", err)
	}
	w.broken = nil
	if v := agree(t, w, m); v.Disk == larger || v.WorkDisk == larger || v.CPUs != 2 {
		t.Errorf("changed: %+v", v.Spec)
	}
}

// A daemon that is killed anywhere in it: the next one finishes the change, at
// its start or at the VM's.
func TestDieEverywhereInSet(t *testing.T) {
	for i, p := range pointsOfSet(t) {
		for _, repair := range []string{"reconcile", "start", "set"} {
			t.Run(p.String()+", "+repair, func(t *testing.T) {
				w := newWorld(t)
				stopped(t, w)
				var dying sync.WaitGroup
				dying.Go(func() { _ = grow(t.Context(), w.manager(dieAtNth(i))) })
				dying.Wait()
				next := w.manager(nil)
				var err error
				switch repair {
				case "reconcile":
					err = next.Reconcile(t.Context())
				case "start":
					_, err = next.Start(t.Context(), "web", quiet{})
				case "set":
					err = grow(t.Context(), next)
				}
				if err != nil {
					t.Fatal(err)
				}
				if v := agree(t, w, next); v.Disk != larger || v.WorkDisk != larger || v.CPUs != 1 {
					t.Errorf("the change was lost: %+v", v.Spec)
				}
			})
		}
	}
}

// A client that goes away in the middle leaves no half of it.
func TestSetOutlivesItsClient(t *testing.T) {
	w := newWorld(t)
	stopped(t, w)
	ctx, gone := context.WithCancel(t.Context())
	m := w.manager(func(_ banger.VMID, _ string, at steps.Phase) error {
		if at == steps.BeforeEnsure {
			gone()
		}
		return nil
	})
	if err := grow(ctx, m); err != nil {
		t.Error(err)
	}
	if v := agree(t, w, m); v.Disk != larger || v.WorkDisk != larger || v.CPUs != 1 {
		t.Errorf("%+v", v.Spec)
	}
}

// A VM that runs keeps what its VMM was started with, its network mode among it, and
// whoever asks for another is told to stop it first.
func TestSetWhileItRuns(t *testing.T) {
	w, _ := reachable(t)
	m := w.manager(nil)
	if _, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), Network: ptr("routed")}, quiet{}); err != nil {
		t.Fatal(err)
	}
	before := w.String()
	for what, c := range map[string]vm.Change{
		"network mode": {Network: ptr("user")},
		"that chosen":  {Network: ptr("auto")},
		"CPUs":         {CPUs: ptr(1)},
		"memory":       {Memory: ptr(int64(1 << 30))},
		"disk":         {Disk: ptr(int64(larger))},
		"work disk":    {WorkDisk: ptr(int64(larger))},
		"with others":  {Name: ptr("site"), Network: ptr("user")},
	} {
		_, err := m.Set(t.Context(), "web", c)
		if e := banger.AsError(err); e == nil || e.Code != banger.WrongState || e.Remedy != "banger stop web" || w.String() != before {
			t.Errorf("%s: %v\n%s", what, err, w)
		}
	}
	if _, err := m.Stop(t.Context(), "web", nil, quiet{}); err != nil {
		t.Fatal(err)
	}
	if v, err := m.Set(t.Context(), "web", vm.Change{Network: ptr("user")}); err != nil || v.Network != banger.NetworkUser {
		t.Errorf("stopped: %s, %v", v.Network, err)
	}
}
