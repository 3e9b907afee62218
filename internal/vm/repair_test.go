package vm_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"banger"
	"banger/internal/steps"
	"banger/internal/vm"
)

// VMMs that do not answer keep the daemon from nothing: it listens, and says
// no lie about them.
func TestStuckVMMs(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	m.Close()
	w.stuck = make(chan struct{})
	next := w.manager(nil)
	if err := next.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, err := next.Show(t.Context(), "web"); err != nil || v.State != banger.StateStarting {
		t.Errorf("state %s, %v", v.State, err)
	}
	if _, err := next.Reachable(t.Context(), "web"); banger.CodeOf(err) != banger.Busy {
		t.Errorf("exec: %v", err)
	}
	if _, err := next.Create(t.Context(), vm.Create{Name: ptr("other")}, quiet{}); err != nil {
		t.Error(err)
	}
	close(w.stuck)
	wait(t, next, vm.ForReady)
}

// A daemon that ends while it starts a VM for its guest's reboot leaves it to
// the next one.
func TestRebootAcrossDaemons(t *testing.T) {
	w := newWorld(t)
	waiting := make(chan bool, 2)
	m := w.manager(func(_ banger.VMID, step string, at steps.Phase) error {
		if step == "guest" && at == steps.BeforeEnsure {
			waiting <- true
		}
		return nil
	})
	create(t, m)
	<-waiting
	w.mute = true
	w.only(t).end(banger.Exit{Cause: banger.ExitGuest, Reboot: true})
	<-waiting
	again := w.only(t)
	m.Close()
	if again.over() {
		t.Fatal("the VMM was ended with the daemon")
	}
	w.mute = false
	next := w.manager(nil)
	if err := next.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, next, vm.ForReady)
	if w.only(t) != again {
		t.Error("another VMM")
	}
}

// What the user wants of a VM goes before waiting for its guest, unless it
// could not be done anyway.
func TestChangeDuringRepair(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	m.Close()
	w.mute = true
	next := w.manager(nil)
	if err := next.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := next.Start(t.Context(), "web", quiet{})
	if banger.CodeOf(err) != banger.WrongState {
		t.Errorf("start: %v", err)
	}
	_, err = next.Set(t.Context(), "web", vm.Change{CPUs: ptr(1)})
	if banger.CodeOf(err) != banger.WrongState {
		t.Errorf("set: %v", err)
	}
	if v, err := next.Kill(t.Context(), "web", quiet{}); err != nil || v.State != banger.StateStopped {
		t.Errorf("kill: %s, %v", v.State, err)
	}
}

// A stop that is called off while the guest takes its time ends nothing.
func TestStopCalledOff(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	w.deaf = true
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := m.Stop(ctx, "web", nil, onStep{cancel}); banger.CodeOf(err) != banger.Canceled {
		t.Errorf("err = %v", err)
	}
	if v, err := m.Show(t.Context(), "web"); err != nil || v.State != banger.StateRunning || !v.Ready {
		t.Errorf("state %s, ready %v, %v", v.State, v.Ready, err)
	}
	w.only(t).end(banger.Exit{Cause: banger.ExitGuest, Reboot: true})
	wait(t, m, vm.ForReady) // it is meant to run
}

// onStep calls a function as soon as something is done.
type onStep struct{ do func() }

func (o onStep) Step(string) { o.do() }

func (onStep) StepDone(string, time.Duration) {}
func (onStep) Progress(string, int64, int64)  {}
func (onStep) Message(string, ...any)         {}

// A second deletion of a VM says what happened to it.
func TestDeleteTwiceAtOnce(t *testing.T) {
	w := newWorld(t)
	deleting, goOn := make(chan bool), make(chan bool)
	m := w.manager(func(_ banger.VMID, step string, at steps.Phase) error {
		if step == "directory" && at == steps.BeforeRelease {
			deleting <- true
			<-goOn
		}
		return nil
	})
	create(t, m)
	errs := make(chan error, 1)
	go func() { _, err := m.Delete(context.Background(), "web", true, quiet{}); errs <- err }()
	<-deleting
	second := make(chan error, 1)
	go func() { _, err := m.Delete(context.Background(), "web", true, quiet{}); second <- err }()
	close(goOn)
	if err := <-errs; err != nil {
		t.Error(err)
	}
	if err := <-second; banger.CodeOf(err) != banger.NotFound {
		t.Errorf("second: %v", err)
	}
}

// What a start that failed could not take down stays recorded, and goes before
// the next one.
func TestUndoThatFails(t *testing.T) {
	for _, step := range []string{"vmm", "initramfs", "network"} {
		w := newWorld(t)
		if _, err := w.manager(nil).Create(t.Context(), vm.Create{Name: ptr("web"), NoStart: true}, quiet{}); err != nil {
			t.Fatal(err)
		}
		before := w.String()
		var broken atomic.Bool // a repair in the background asks, too
		broken.Store(true)
		m := w.manager(func(_ banger.VMID, at string, phase steps.Phase) error {
			if broken.Load() && (at == "guest" && phase == steps.BeforeEnsure || at == step && phase == steps.BeforeRelease) {
				return errBoom
			}
			return nil
		})
		if _, err := m.Start(t.Context(), "web", quiet{}); !errors.Is(err, errBoom) {
			t.Errorf("%s: start: %v", step, err)
		}
		broken.Store(false)
		if w.String() == before {
			t.Errorf("%s: nothing is left: the test breaks nothing", step)
		}
		next := w.manager(nil)
		if err := next.Reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait(t, next, vm.ForStopped)
		next.Close()
		if after := w.String(); after != before {
			t.Errorf("%s: after the next daemon's start:\n%s", step, after)
		}
	}
}

// A guest reboots, and what is left of its run cannot be taken down: it is said
// to have a problem, not to be starting for ever.
func TestRebootThatFails(t *testing.T) {
	w := newWorld(t)
	m := w.manager(func(_ banger.VMID, step string, at steps.Phase) error {
		if step == "vmm" && at == steps.BeforeRelease {
			return errBoom
		}
		return nil
	})
	create(t, m)
	w.only(t).end(banger.Exit{Cause: banger.ExitGuest, Reboot: true})
	wait(t, m, vm.ForStopped)
	if v, err := m.Show(t.Context(), "web"); err != nil || v.State != banger.StateError || v.Problem == nil {
		t.Errorf("state %s, problem %v, %v", v.State, v.Problem, err)
	}
}

// Whoever waits for a VM whose repair did not find its guest looks for it.
func TestWaitAfterAFailedRepair(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	m.Close()
	fails := failAt(point{"guest", steps.BeforeEnsure})
	next := w.manager(fails)
	if err := next.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, next, vm.ForReady)
}

// A daemon is killed between the launch of a VMM and the start of its guest: the
// next one starts the VM again if it is meant to run, and only then.
func TestVMMWithoutGuest(t *testing.T) {
	for _, intent := range []banger.Intent{banger.IntentRunning, banger.IntentStopped, banger.IntentDeleting} {
		w := newWorld(t)
		m := w.manager(nil)
		create(t, m)
		first := w.only(t)
		m.Close()
		rec, err := w.store.FindVM(t.Context(), "web")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.store.UpdateVM(t.Context(), rec.ID, func(r *banger.Record) error {
			r.Intent, r.Run.ReadyAt = intent, time.Time{}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		w.blank = true
		next := w.manager(nil)
		if err := next.Reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		switch intent {
		case banger.IntentRunning:
			wait(t, next, vm.ForReady)
			if again := w.only(t); again == first || again.launch == first.launch {
				t.Error("it is the VMM that had no guest")
			}
		case banger.IntentStopped:
			if v := wait(t, next, vm.ForStopped); v.State != banger.StateStopped {
				t.Errorf("meant to be stopped, it is %s", v.State)
			}
		default:
			if _, err := next.Wait(t.Context(), "web", vm.ForStopped, 10*time.Second); banger.CodeOf(err) != banger.NotFound {
				t.Errorf("meant to be deleted: %v", err)
			}
		}
		if !first.over() {
			t.Errorf("%s: the VMM lives", intent)
		}
		next.Close()
	}
}
