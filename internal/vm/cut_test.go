package vm_test

import (
	"strings"
	"testing"
	"time"

	"banger"
	"banger/internal/vm"
)

// lost waits until a daemon shows that the VM has lost its network.
func lost(t *testing.T, m *vm.Manager) banger.VM {
	t.Helper()
	_, err := m.Wait(t.Context(), "web", vm.ForReady, 10*time.Second)
	if e := banger.AsError(err); e == nil || e.Code != banger.WrongState || !strings.Contains(e.Message, "web cannot be reached: its network is gone") || e.Remedy != "restart it" {
		t.Fatalf("wait for ready: %+v", e)
	}
	v, err := m.Show(t.Context(), "web")
	if err != nil || v.State != banger.StateRunning || v.Ready || v.Problem == nil || v.Problem.Message != "its network is gone" || v.Problem.Remedy != "restart it" {
		t.Fatalf("%+v, problem %+v, %v", v, v.Problem, err)
	}
	return v
}

// A VM whose network ends is shown with that, its VMM is left alone, whoever
// needs its guest is told at once, and it can be stopped, restarted and deleted.
func TestNetworkIsLost(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	w.mute = true // nothing leads to the guest
	running := make(chan error, 1)
	go func() {
		_, err := m.Reachable(t.Context(), "web")
		running <- err
	}()
	close(w.cut)
	if err := <-running; banger.CodeOf(err) != banger.WrongState {
		t.Errorf("who was waiting: %v", err)
	}
	if v := lost(t, m); v.PID == 0 {
		t.Errorf("its VMM is gone: %+v", v)
	}
	if strings.Contains(w.String(), "connection") {
		t.Errorf("a connection that leads nowhere was kept:\n%s", w)
	}
	limit := 5 * time.Second
	v, err := m.Stop(t.Context(), "web", &limit, quiet{}) // by the power button
	if err != nil || v.State != banger.StateStopped || v.Problem != nil || v.LastExit.Cause != banger.ExitGuest {
		t.Errorf("stopped: %+v, %v", v, err)
	}
	w.mute, w.cut = false, make(chan struct{})
	if v, err = m.Start(t.Context(), "web", quiet{}); err != nil || v.Problem != nil || !v.Ready {
		t.Errorf("started again: %+v, %v", v, err)
	}
}

// A start does not wait for a guest that nothing leads to.
func TestNetworkIsLostAtStart(t *testing.T) {
	w := newWorld(t)
	w.mute = true
	close(w.cut)
	m := w.manager(nil)
	_, err := m.Create(t.Context(), vm.Create{Name: ptr("web")}, quiet{})
	if e := banger.AsError(err); e == nil || e.Code != banger.HostUnready || !strings.Contains(e.Message, "its network is gone") {
		t.Errorf("%+v", e)
	}
	if s := w.String(); s != "" {
		t.Errorf("left:\n%s", s)
	}
}

// The next daemon sees it, too.
func TestNetworkIsLostBetweenDaemons(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	m.Close()
	w.mute = true
	close(w.cut)
	next := w.manager(nil)
	if err := next.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	lost(t, next)
	if _, err := next.Delete(t.Context(), "web", true, quiet{}); err != nil {
		t.Error(err)
	}
	if s := w.String(); s != "" {
		t.Errorf("left:\n%s", s)
	}
}

// A network ends with its VMM: that is nobody's problem.
func TestNetworkEndsWithTheVMM(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	close(w.cut)
	w.only(t).end(banger.Exit{Cause: banger.ExitGuest})
	if v := settled(t, m); v.State != banger.StateStopped || v.Problem != nil {
		t.Errorf("%+v, problem %+v", v, v.Problem)
	}
}
