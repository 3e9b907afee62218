package vm_test

import (
	"strings"
	"testing"
	"time"

	"banger"
	"banger/internal/steps"
	"banger/internal/vm"
)

// A guest may reboot as often as it likes, but not without end in no time.
func TestRebootsWithoutEnd(t *testing.T) {
	w := newWorld(t)
	ready := make(chan bool, 1)
	m := w.manager(func(_ banger.VMID, step string, at steps.Phase) error {
		if step == "guest" && at == steps.AfterEnsure {
			ready <- true
		}
		return nil
	})
	create(t, m)
	<-ready
	reboot := func() { w.only(t).end(banger.Exit{Cause: banger.ExitGuest, Reboot: true}) }
	for range 25 { // slowly: a long life
		w.later.Add(int64(2 * time.Minute))
		reboot()
		<-ready
	}
	w.later.Add(int64(time.Hour))
	for range 10 {
		reboot()
		<-ready
	}
	reboot()
	wait(t, m, vm.ForStopped)
	v, err := m.Set(t.Context(), "web", vm.Change{}) // behind the VM's lock
	if err != nil {
		t.Fatal(err)
	}
	if v.State != banger.StateError || v.Problem == nil || !strings.Contains(v.Problem.Message, "rebooted") || v.Problem.Remedy == "" {
		t.Errorf("state %s, problem %+v", v.State, v.Problem)
	}
	if strings.Contains(w.String(), "vmm of") {
		t.Errorf("it was started again:\n%s", w)
	}
	if _, err := m.Start(t.Context(), "web", quiet{}); err != nil {
		t.Fatal(err)
	}
	<-ready
	reboot() // counted anew
	<-ready
	if v := wait(t, m, vm.ForReady); v.Problem != nil {
		t.Errorf("problem %+v", v.Problem)
	}
}
