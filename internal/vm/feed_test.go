package vm_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"banger"
	"banger/internal/steps"
	"banger/internal/vm"
)

// story is what a daemon remembers, without numbers and times.
func story(m *vm.Manager) string {
	var all []string
	for e := range m.Events(context.Background(), 0, false) {
		all = append(all, told(e))
	}
	return strings.Join(all, ", ")
}

func told(e banger.VMEvent) string {
	s := string(e.Type) + " " + e.Name
	if e.Was != "" {
		s += " was " + e.Was
	}
	if e.Exit != nil {
		s += fmt.Sprintf(" by %s", e.Exit.Cause)
		if e.Exit.Reboot {
			s += " to reboot"
		}
	}
	if e.Problem != nil {
		s += ": " + e.Problem.Message[strings.LastIndex(e.Problem.Message, " ")+1:]
	}
	return s
}

func TestEventsOfALife(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	ok := func(_ banger.VM, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(m.Set(t.Context(), "web", vm.Change{Name: ptr("shop"), Autostart: ptr(true)}))
	ok(m.Set(t.Context(), "shop", vm.Change{Autostart: ptr(true)})) // which it is already
	ok(m.Restart(t.Context(), "shop", nil, quiet{}))
	ok(m.Kill(t.Context(), "shop", quiet{}))
	ok(m.Reset(t.Context(), "shop", quiet{}))
	ok(m.Start(t.Context(), "shop", quiet{}))
	ok(m.Delete(t.Context(), "shop", true, quiet{}))
	want := "created web, starting web, ready web, renamed shop was web, changed shop, stopped shop by guest, starting shop, ready shop, " +
		"stopped shop by killed, reset shop, starting shop, ready shop, stopped shop by killed, deleted shop"
	if got := story(m); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEventsOfAFailure(t *testing.T) {
	w := newWorld(t)
	m := w.manager(failAt(point{"network", steps.AfterEnsure}))
	if _, err := m.Create(t.Context(), vm.Create{Name: ptr("web")}, quiet{}); err == nil {
		t.Fatal("no error")
	}
	if got := story(m); !strings.HasPrefix(got, "created web, starting web, failed web: ") || !strings.HasSuffix(got, ", deleted web") {
		t.Errorf("got %s", got)
	}
}

// How a run ended is told by the next daemon, too; a number of the last one's
// is answered by what may be lost, and what this one knows.
func TestEventsAcrossDaemons(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	if _, err := m.Create(t.Context(), vm.Create{Name: ptr("stays")}, quiet{}); err != nil {
		t.Fatal(err)
	}
	var last banger.VMEvent
	for last = range m.Events(t.Context(), 0, false) {
	}
	m.Close()
	web, _ := m.Show(t.Context(), "web")
	rec, err := w.store.VM(t.Context(), web.ID)
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	p := w.procs[rec.Run.Launch]
	w.mu.Unlock()
	p.end(banger.Exit{Cause: banger.ExitUnknown})
	next := w.manager(nil)
	if err := next.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"stopped web by unknown": true, "adopted stays": true}
	first := true
	for e := range next.Events(t.Context(), last.N+1, true) {
		if first {
			if first = false; e.Type != banger.VMEventsLost || e.Since != last.N+1 || e.N <= last.N {
				t.Errorf("first %+v, last was %d", e, last.N)
			}
			continue
		}
		if !want[told(e)] {
			t.Errorf("told: %s", told(e))
		}
		if delete(want, told(e)); len(want) == 0 {
			break
		}
	}
}

// Who follows gets each event once and in order; who comes too late for some is
// told; the daemon's memory is bounded.
func TestEventsAreBounded(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	if _, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), NoStart: true}, quiet{}); err != nil {
		t.Fatal(err)
	}
	var first banger.VMEvent
	for first = range m.Events(t.Context(), 0, false) {
		break
	}
	const many = 9000 // beyond twice what is kept
	vm.Tell(m, many)
	var n int
	for e := range m.Events(t.Context(), first.N+1, false) {
		switch {
		case n == 0 && (e.Type != banger.VMEventsLost || e.Since != first.N+1 || e.N != first.N+many-4096):
			t.Fatalf("first %+v", e)
		case n > 0 && e.N != first.N+many-4096+int64(n):
			t.Fatalf("number %d is %+v", n, e)
		}
		n++
	}
	if n != 1+4096 {
		t.Errorf("%d events", n)
	}
	followed := make(chan int64)
	go func() {
		for e := range m.Events(context.Background(), first.N+many, true) {
			followed <- e.N
		}
		close(followed)
	}()
	for i := int64(0); i < 3; i++ {
		if got := <-followed; got != first.N+many+i {
			t.Errorf("followed %d, want %d", got, first.N+many+i)
		}
		vm.Tell(m, 1)
	}
	<-followed
	m.EndEvents()
	for range followed { // ends
	}
}

// How a run ended can be told from the VMM's end on, also while what is left of
// the run is taken down.
func TestExitIsNeverForgotten(t *testing.T) {
	w := newWorld(t)
	var m *vm.Manager
	shown := make(chan banger.VM, 16)
	m = w.manager(func(id banger.VMID, _ string, at steps.Phase) error {
		if at == steps.BeforeRelease || at == steps.AfterRelease {
			v, err := m.Show(context.Background(), string(id))
			if err != nil {
				t.Error(err)
			}
			shown <- v
		}
		return nil
	})
	create(t, m)
	w.only(t).end(banger.Exit{Cause: banger.ExitGuest})
	settled(t, m)
	close(shown)
	n := 0
	for v := range shown {
		if n++; v.LastExit == nil || v.LastExit.Cause != banger.ExitGuest {
			t.Errorf("at point %d: %s, %+v", n, v.State, v.LastExit)
		}
	}
	if n != 2*5 {
		t.Errorf("%d points", n)
	}
}
