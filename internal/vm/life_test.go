package vm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"banger"
	"banger/internal/guest"
	"banger/internal/guestapi"
	"banger/internal/steps"
	"banger/internal/vm"
)

// only returns the one VMM that lives.
func (w *world) only(t *testing.T) *process {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.procs {
		if !p.over() {
			return p
		}
	}
	t.Fatal("no VMM lives")
	return nil
}

func wait(t *testing.T, m *vm.Manager, what string) banger.VM {
	t.Helper()
	v, err := m.Wait(t.Context(), "web", what, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// settled waits until the daemon has done all that follows a VMM's end.
func settled(t *testing.T, m *vm.Manager) banger.VM {
	t.Helper()
	return wait(t, m, vm.ForStopped)
}

// Who waits for a VM to be stopped goes on when nothing of its run is left, and
// not while it is being taken down.
func TestStoppedIsTakenDown(t *testing.T) {
	w := newWorld(t)
	asked := make(chan error, 1)
	var m *vm.Manager
	m = w.manager(func(_ banger.VMID, step string, at steps.Phase) error {
		if step == "network" && at == steps.BeforeRelease {
			_, err := m.Wait(t.Context(), "web", vm.ForStopped, 50*time.Millisecond)
			asked <- err
		}
		return nil
	})
	create(t, m)
	w.only(t).end(banger.Exit{Cause: banger.ExitGuest})
	v := wait(t, m, vm.ForStopped)
	if err := <-asked; banger.CodeOf(err) != banger.TimedOut {
		t.Errorf("while the network is released it is said to be stopped: %v", err)
	}
	var told bool
	for e := range m.Events(t.Context(), 0, false) {
		told = told || e.Type == banger.VMStopped && e.VM == v.ID
	}
	if !told || v.LastExit == nil || v.LastExit.Cause != banger.ExitGuest {
		t.Errorf("stopped told: %v, exit %+v", told, v.LastExit)
	}
}

func TestHowARunEnds(t *testing.T) {
	for name, c := range map[string]struct{ end, want banger.Exit }{
		"poweroff": {banger.Exit{Cause: banger.ExitGuest}, banger.Exit{Cause: banger.ExitGuest}},
		"killed from outside": {
			banger.Exit{Cause: banger.ExitUnknown, Detail: "QEMU was ended by SIGKILL"},
			banger.Exit{Cause: banger.ExitUnknown, Detail: "QEMU was ended by SIGKILL"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			m := w.manager(nil)
			create(t, m)
			w.only(t).end(c.end)
			v := settled(t, m)
			if v.State != banger.StateStopped || v.LastExit == nil || *v.LastExit != c.want {
				t.Errorf("state %s, exit %+v", v.State, v.LastExit)
			}
			if s := w.String(); strings.Contains(s, "network") || strings.Contains(s, "run=true") {
				t.Errorf("left of the run:\n%s", s)
			}
		})
	}
}

// A command that its VM's end cut off was not refused: whoever ran it must not
// take it for one that was never begun.
func TestExecCutOff(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	began := writer(func() { go w.only(t).end(banger.Exit{Cause: banger.ExitUnknown}) })
	_, err := m.Exec(t.Context(), "web", guestapi.Exec{Argv: []string{"sleep"}}, guest.Streams{Stdout: began})
	if banger.CodeOf(err) != banger.Lost || !strings.Contains(err.Error(), "ended while the command ran") {
		t.Errorf("got %v, code %s", err, banger.CodeOf(err))
	}
	settled(t, m)
	_, err = m.Exec(t.Context(), "web", guestapi.Exec{Argv: []string{"true"}}, guest.Streams{})
	if banger.CodeOf(err) != banger.WrongState {
		t.Errorf("exec in a stopped VM: %v", err)
	}
}

// A writer calls itself at each write.
type writer func()

func (f writer) Write(p []byte) (int, error) { f(); return len(p), nil }

func TestReboot(t *testing.T) {
	w := newWorld(t)
	launched := make(chan bool, 2)
	m := w.manager(func(_ banger.VMID, step string, at steps.Phase) error {
		if step == "vmm" && at == steps.AfterEnsure {
			launched <- true
		}
		return nil
	})
	create(t, m)
	first := w.only(t)
	first.end(banger.Exit{Cause: banger.ExitGuest, Reboot: true})
	<-launched
	<-launched
	v := wait(t, m, vm.ForReady)
	if second := w.only(t); second.launch == first.launch {
		t.Error("the same launch ID")
	}
	if v.LastExit == nil || !v.LastExit.Reboot {
		t.Errorf("exit %+v", v.LastExit)
	}
}

// A guest that asked for a reboot while no daemon listened gets it from the
// next one, which reads the guest program's last word on the console.
func TestRebootWithoutDaemon(t *testing.T) {
	for _, what := range []string{"reboot", "poweroff"} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			m := w.manager(nil)
			create(t, m)
			v, _ := m.Show(t.Context(), "web")
			p := w.only(t)
			m.Close()
			marker := guestapi.ExitMarker(p.launch, what) + "\n"
			if err := os.WriteFile(v.SerialLog, []byte(marker), 0o600); err != nil {
				t.Fatal(err)
			}
			p.end(banger.Exit{Cause: banger.ExitUnknown})
			next := w.manager(nil)
			if err := next.Reconcile(t.Context()); err != nil {
				t.Fatal(err)
			}
			v, _ = next.Show(t.Context(), "web")
			want := map[string]banger.State{"reboot": banger.StateRunning, "poweroff": banger.StateStopped}[what]
			if v.State != want || v.LastExit == nil || v.LastExit.Cause != banger.ExitGuest {
				t.Errorf("state %s, exit %+v", v.State, v.LastExit)
			}
		})
	}
}

// The same VMM goes on under the next daemon.
func TestAdopt(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	p := w.only(t)
	m.Close()
	next := w.manager(nil)
	if err := next.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, next, vm.ForReady)
	if w.only(t) != p {
		t.Error("another VMM")
	}
}

// A VMM that dies before its guest is ready is noticed at once; the error shows
// the console, escaped, and where the log is kept after the VM is undone.
func TestEarlyDeath(t *testing.T) {
	w := newWorld(t)
	w.early, w.mute = true, true
	m := w.manager(nil)
	_, err := m.Create(t.Context(), vm.Create{Name: ptr("web")}, quiet{})
	e := banger.AsError(err)
	for _, want := range []string{"start web", "guest: ", `Kernel panic \x1b[31m`, "accelerator tcg: pretend"} {
		if !strings.Contains(e.Message, want) {
			t.Errorf("no %q in %q", want, e.Message)
		}
	}
	if b, err := os.ReadFile(e.Log); err != nil || !strings.Contains(string(b), "Kernel panic") {
		t.Errorf("log %q: %q, %v", e.Log, b, err)
	}
}

func TestWrongState(t *testing.T) {
	m := newWorld(t).manager(nil)
	create(t, m)
	check := func(what string, code banger.Code, err error) {
		t.Helper()
		if banger.CodeOf(err) != code {
			t.Errorf("%s: %v (%s), want %s", what, err, banger.CodeOf(err), code)
		}
		if err != nil && banger.AsError(err).Remedy == "" && code != banger.NotFound {
			t.Errorf("%s: no remedy: %v", what, err)
		}
	}
	_, err := m.Start(t.Context(), "web", quiet{})
	check("start a running VM", banger.WrongState, err)
	_, err = m.Delete(t.Context(), "web", false, quiet{})
	check("delete a running VM", banger.WrongState, err)
	_, err = m.Set(t.Context(), "web", vm.Change{CPUs: ptr(1)})
	check("set a running VM", banger.WrongState, err)
	_, err = m.Create(t.Context(), vm.Create{Name: ptr("web")}, quiet{})
	check("create it again", banger.Exists, err)
	_, err = m.Start(t.Context(), "wbe", quiet{})
	check("unknown VM", banger.NotFound, err)
}

func TestBadValues(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	before := w.String()
	for name, c := range map[string]vm.Create{
		"cpus 0":           {CPUs: ptr(0)},
		"cpus -1":          {CPUs: ptr(-1)},
		"cpus 65":          {CPUs: ptr(65)},
		"memory 1KiB":      {Memory: ptr(int64(1 << 10))},
		"disk 17TiB":       {Disk: ptr(int64(17 << 40))},
		"memory 0":         {Memory: ptr(int64(0))},
		"memory -1":        {Memory: ptr(int64(-1))},
		"memory of a host": {Memory: ptr(int64(64 << 30))},
		"disk 0":           {Disk: ptr(int64(0))},
		"disk too small":   {Disk: ptr(int64(1 << 20))},
		"empty name":       {Name: ptr("")},
		"bad name":         {Name: ptr("Web_1")},
		"empty image":      {Image: ptr("")},
		"unknown network":  {Network: ptr("bridge")},
		"unknown backend":  {Backend: ptr("bochs")},
	} {
		if _, err := m.Create(t.Context(), c, quiet{}); banger.CodeOf(err) != banger.Invalid || banger.AsError(err).Remedy == "" {
			t.Errorf("%s: %v, or no remedy", name, err)
		}
	}
	if after := w.String(); after != before {
		t.Errorf("something was touched:\n%s", after)
	}
	if _, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), NoStart: true}, quiet{}); err != nil {
		t.Fatal(err)
	}
	v, _ := m.Show(t.Context(), "web")
	if v.CPUs != 2 || v.Memory != 1<<30 || v.Disk != 4<<30 {
		t.Errorf("defaults: %+v", v.Spec)
	}
	for name, c := range map[string]vm.Change{
		"cpus 0": {CPUs: ptr(0)}, "memory 0": {Memory: ptr(int64(0))}, "memory -1": {Memory: ptr(int64(-1))}, "disk -1": {Disk: ptr(int64(-1))},
		"shrink": {Disk: ptr(int64(2 << 30))}, "good and bad": {CPUs: ptr(1), Memory: ptr(int64(0))},
	} {
		if _, err := m.Set(t.Context(), "web", c); banger.CodeOf(err) != banger.Invalid || banger.AsError(err).Remedy == "" {
			t.Errorf("set %s: %v, or no remedy", name, err)
		}
	}
	if _, err := m.Kill(t.Context(), "web", quiet{}); banger.CodeOf(err) != banger.WrongState || banger.AsError(err).Remedy == "" {
		t.Errorf("kill a stopped VM: %v, or no remedy", err)
	}
	if now, _ := m.Show(t.Context(), "web"); !reflect.DeepEqual(now.Spec, v.Spec) {
		t.Errorf("changed: %+v", now.Spec)
	}
}

// Different VMs proceed in parallel: eight creates wait for each other in
// their last step, which none in a row could reach.
func TestParallelCreates(t *testing.T) {
	const n = 8
	w := newWorld(t)
	arrived := make(chan struct{}, n)
	all := make(chan struct{})
	m := w.manager(func(_ banger.VMID, step string, at steps.Phase) error {
		if step == "guest" && at == steps.AfterEnsure {
			arrived <- struct{}{}
			<-all
		}
		return nil
	})
	var g errgroup.Group
	for i := range n {
		g.Go(func() error {
			_, err := m.Create(context.Background(), vm.Create{Name: ptr(fmt.Sprintf("vm-%d", i))}, quiet{})
			return err
		})
	}
	for range n {
		select {
		case <-arrived:
		case <-time.After(20 * time.Second):
			t.Fatal("creates are serial")
		}
	}
	close(all)
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

func TestOneNameOnce(t *testing.T) {
	m := newWorld(t).manager(nil)
	errs := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := m.Create(context.Background(), vm.Create{Name: ptr("web"), NoStart: true}, quiet{})
			errs <- err
		}()
	}
	err := errors.Join(<-errs, <-errs)
	if banger.CodeOf(err) != banger.Exists {
		t.Errorf("err = %v", err)
	}
	if vms, _ := m.List(t.Context()); len(vms) != 1 {
		t.Errorf("%d VMs", len(vms))
	}
}

// Create answers field for field what Show returns.
func TestCreateAnswersLikeShow(t *testing.T) {
	m := newWorld(t).manager(nil)
	made, err := m.Create(t.Context(), vm.Create{}, quiet{})
	if err != nil {
		t.Fatal(err)
	}
	shown, err := m.Show(t.Context(), string(made.ID)[:5])
	if err != nil {
		t.Fatal(err)
	}
	if !made.Ready || made.State != banger.StateRunning || fmt.Sprintf("%+v", made) != fmt.Sprintf("%+v", shown) {
		t.Errorf("created %+v\nshown   %+v", made, shown)
	}
}

func TestWaitTimesOut(t *testing.T) {
	m := newWorld(t).manager(nil)
	create(t, m)
	_, err := m.Wait(t.Context(), "web", vm.ForStopped, time.Millisecond)
	if banger.CodeOf(err) != banger.TimedOut {
		t.Errorf("err = %v", err)
	}
}
