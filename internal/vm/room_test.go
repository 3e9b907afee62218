package vm_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

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
