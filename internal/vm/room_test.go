package vm_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banger"
	"banger/internal/storage"
	"banger/internal/vm"
)

// gauged are pretend disks that can be lost when the host runs full.
type gauged struct {
	disks
	lost *atomic.Bool
}

func (g gauged) Fill(context.Context, storage.Disk) (used, total int64, err error) {
	if g.lost.Load() {
		return 0, 0, banger.Errorf(banger.WrongState, "the root disk is lost").WithRemedy("banger vm reset web")
	}
	return 1, 2, nil
}

// A VM is held below the reserve, goes on above twice that and not between, and is
// shown with why; the next daemon lets go of what the last one held.
func TestRoom(t *testing.T) {
	w := newWorld(t)
	const reserve = 100 << 20
	var free atomic.Int64
	var lost atomic.Bool
	free.Store(3 * reserve)
	w.configure = func(c *vm.Config) {
		c.Disks = []storage.Strategy{gauged{disks{w}, &lost}}
		c.Room = func(string) (int64, int64, error) { return free.Load(), reserve, nil }
	}
	m := w.manager(nil)
	v, err := m.Create(t.Context(), vm.Create{Name: ptr("web")}, quiet{})
	if err != nil {
		t.Fatal(err)
	}
	look := func(what string, to int64, held bool, problem string) {
		t.Helper()
		free.Store(to)
		vm.LookAtRoom(m)
		if got := strings.Contains(w.String(), "held "+string(v.ID)); got != held {
			t.Errorf("%s: held %t, want %t", what, got, held)
		}
		got, err := m.Show(t.Context(), "web")
		if err != nil || (got.Problem != nil) != (problem != "") || got.Problem != nil && !strings.Contains(got.Problem.Message, problem) {
			t.Errorf("%s: %+v %v, want %q", what, got.Problem, err, problem)
		}
		if got.State != banger.StateRunning || got.Problem != nil && got.Problem.Remedy == "" {
			t.Errorf("%s: %s %+v", what, got.State, got.Problem)
		}
	}
	look("room", 3*reserve, false, "")
	look("little room", reserve, false, "")
	look("too little", reserve-1, true, "paused: ")
	look("still too little", 0, true, "paused: ")
	look("a bit", 2*reserve-1, true, "paused: ")
	look("enough", 2*reserve, false, "")
	look("too little again", 0, true, "paused: ")
	m.Close()
	m = w.manager(nil)
	if err := m.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	look("the next daemon", 2*reserve, false, "")
	look("too little, once more", 0, true, "paused: ")
	lost.Store(true)
	look("too late", 2*reserve, false, "the root disk is lost")
}

// A VMM that does not answer keeps no other VM from being held, and gives none time.
func TestRoomBesideHungVMM(t *testing.T) {
	w := newWorld(t)
	w.configure = func(c *vm.Config) {
		c.Disks = []storage.Strategy{gauged{disks{w}, &atomic.Bool{}}}
		c.Room = func(string) (int64, int64, error) { return 0, 100 << 20, nil }
	}
	m := w.manager(nil)
	defer m.Close()
	var ids []string
	for _, name := range []string{"one", "two", "three", "four"} {
		v, err := m.Create(t.Context(), vm.Create{Name: ptr(name)}, quiet{})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, string(v.ID))
	}
	w.hung = ids[0]
	for range 2 { // the second time the first is still being asked
		vm.LookAtRoom(m)
		for n, id := range ids {
			if got := strings.Contains(w.String(), "held "+id); got != (n > 0) {
				t.Errorf("VM %d held: %t", n, got)
			}
		}
	}
}

// On a disk that cannot be lost a VM is held before a write fails in its guest,
// but where its VMM stalls by itself it is left alone until it has: then it is shown
// with why, whoever needs its guest is told, and it goes on when there is room, also
// under the next daemon.
func TestRoomOfOtherDisks(t *testing.T) {
	for _, stalls := range []bool{false, true} {
		w := newWorld(t)
		const reserve = 100 << 20
		var free atomic.Int64
		free.Store(3 * reserve)
		w.stalls = stalls
		w.configure = func(c *vm.Config) {
			c.Room = func(string) (int64, int64, error) { return free.Load(), reserve, nil }
		}
		m := w.manager(nil)
		v, err := m.Create(t.Context(), vm.Create{Name: ptr("web")}, quiet{})
		if err != nil {
			t.Fatal(err)
		}
		look := func(to int64) (held, stalled bool, p *banger.Problem) {
			t.Helper()
			free.Store(to)
			vm.LookAtRoom(m)
			got, err := m.Show(t.Context(), "web")
			if err != nil || got.State != banger.StateRunning {
				t.Fatalf("%+v, %v", got, err)
			}
			if paused := got.Problem != nil && strings.HasPrefix(got.Problem.Message, "paused: "); paused && got.Ready {
				t.Error("it is ready, and paused")
			} else if !paused {
				if _, err := m.Wait(t.Context(), "web", vm.ForReady, 10*time.Second); err != nil {
					t.Error(err) // the next daemon waits for its guest until it goes on
				}
			}
			return strings.Contains(w.String(), "held "+string(v.ID)), strings.Contains(w.String(), "stalled "+string(v.ID)), got.Problem
		}
		if held, _, p := look(0); held == stalls || (p == nil) != stalls {
			t.Errorf("stalls: %t: no room: held %t, %+v", stalls, held, p)
		}
		if !stalls {
			if held, _, p := look(2 * reserve); held || p != nil {
				t.Errorf("room again: held %t, %+v", held, p)
			}
			continue
		}
		w.set("stalled " + string(v.ID))
		if _, stalled, p := look(2*reserve - 1); !stalled || p == nil || p.Remedy == "" {
			t.Errorf("stalled: %t %+v", stalled, p)
		}
		if _, err := m.Reachable(t.Context(), "web"); banger.CodeOf(err) != banger.WrongState || !strings.Contains(err.Error(), "paused: ") {
			t.Errorf("whoever needs its guest is told: %v", err)
		}
		m.Close()
		m = w.manager(nil)
		if err := m.Reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, stalled, p := look(2*reserve - 1); !stalled || p == nil {
			t.Errorf("stalled under the next daemon: %t %+v", stalled, p)
		}
		if _, stalled, p := look(2 * reserve); stalled || p != nil {
			t.Errorf("room again: stalled %t, %+v", stalled, p)
		}
		// A quota is no room that a file system tells of.
		w.set("stalled " + string(v.ID))
		look(2 * reserve)
		w.set("stalled " + string(v.ID))
		if _, stalled, p := look(2 * reserve); stalled || p == nil || !strings.Contains(p.Message, "tried again") {
			t.Errorf("stalled though there is room: stalled %t, %+v", stalled, p)
		}
		if _, _, p := look(2 * reserve); p != nil {
			t.Errorf("it could be written: %+v", p)
		}
	}
}

// A start does not wait for a guest that stands still.
func TestStartWithoutRoom(t *testing.T) {
	w := newWorld(t)
	w.stalls, w.full, w.mute = true, true, true
	w.configure = func(c *vm.Config) {
		c.Room = func(string) (int64, int64, error) { return 0, 1, nil }
	}
	m := w.manager(nil)
	failed := make(chan error, 1)
	go func() {
		_, err := m.Create(t.Context(), vm.Create{Name: ptr("web")}, quiet{})
		failed <- err
	}()
	for {
		select {
		case err := <-failed:
			if banger.CodeOf(err) != banger.HostUnready || !strings.Contains(err.Error(), "paused: ") || banger.AsError(err).Remedy == "" {
				t.Errorf("a start without room: %v", err)
			}
			return
		default:
			vm.LookAtRoom(m)
		}
	}
}
