package matrix

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
)

// own gives a test an installation of its own, which ends with it.
func own(t *testing.T, real bool) *box {
	t.Helper()
	s := standIns
	s.real = real
	return ownOf(t, s)
}

func ownOf(t *testing.T, of setup) *box {
	t.Helper()
	b := newBoxOf(t, of, func(*box) {})
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(b.logTail())
		}
		b.t = t
		if err := b.close(); err != nil {
			t.Errorf("the installation did not end clean: %v", err)
		}
	})
	return b
}

// show is the VM as the daemon tells it.
func (b *box) show() banger.VM {
	b.t.Helper()
	v, err := b.client.ShowVM(b.ctx(), theVM)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// The end of a run is told for what it was, though no daemon saw it.
func TestEndsBetweenDaemons(t *testing.T) {
	b := own(t, true)
	for _, c := range []struct {
		name string
		end  func()
		want string // state, cause, reboot
	}{
		{"the guest powers off", func() { b.tellGuest("poweroff"); b.marked() }, "stopped guest false"},
		{"the guest reboots", func() { b.tellGuest("reboot"); b.marked() }, "running guest true"},
		{"the VMM is killed", func() { b.killProcess(b.vmms()[0].pid) }, "stopped unknown false"},
		{"the VMM is killed after the guest's last word", func() {
			b.tellGuest("poweroff")
			b.marked()
			b.killProcess(b.vmms()[0].pid)
		}, "stopped guest false"},
		{"the guest reboots, and the VMM is killed", func() {
			b.tellGuest("reboot")
			b.marked()
			b.killProcess(b.vmms()[0].pid)
		}, "running guest true"},
		{"a daemon was killing it", func() {
			b.up()
			diesAt("after release vmm", (*box).killVM)(b)
		}, "stopped killed false"},
	} {
		b.t = t
		b.up()
		b.bring("running")
		before := b.show()
		b.kill()
		c.end()
		b.faults.watch("")
		b.up()
		b.eventually(c.name+": the end is seen", func() error {
			if v := b.show(); v.LastExit == nil || before.LastExit != nil && v.LastExit.At.Equal(before.LastExit.At) {
				return fmt.Errorf("told as %+v", v.LastExit)
			}
			return nil
		})
		state := b.settle()
		v := b.show()
		if got := fmt.Sprint(state, " ", v.LastExit.Cause, " ", v.LastExit.Reboot); got != c.want {
			t.Errorf("%s: %s (%s), want %s", c.name, got, v.LastExit.Detail, c.want)
		}
		if err := b.compare(state); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// marked waits for the guest's last word on the console.
func (b *box) marked() {
	b.t.Helper()
	vms, _, err := b.rows()
	if err != nil {
		b.t.Fatal(err)
	}
	launch, err := b.launchID()
	if err != nil {
		b.t.Fatal(err)
	}
	b.eventually("the guest's last word", func() error {
		console, err := os.ReadFile(filepath.Join(b.State, "vms", vms[0].id, "serial.log"))
		if err == nil && !strings.Contains(string(console), "launch="+launch) {
			err = fmt.Errorf("the console has none")
		}
		return err
	})
}

// A VMM that has ended and was not reaped is dead.
func TestZombie(t *testing.T) {
	b := own(t, false)
	b.bring("running")
	pid := b.vmms()[0].pid
	// Orphans become this process's children, and are zombies until it waits.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	b.kill()
	b.killProcess(pid)
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || !strings.Contains(string(stat), ") Z ") {
		t.Fatalf("no zombie: %q, %v", stat, err)
	}
	b.up()
	if state := b.settle(); state != "stopped" {
		t.Errorf("the VM whose VMM is a zombie is %s", state)
	}
	if err := b.compare("stopped"); err != nil {
		t.Error(err)
	}
	b.do(b.start)
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil {
		t.Errorf("reap it: %v", err)
	}
}

// idleArg makes the test binary do nothing, under any name.
const idleArg = "BANGER_MATRIX_IDLE"

// bystander is a process of nobody's, with the arguments that it is given.
func bystander(t *testing.T, argv ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Args, cmd.Env = argv, []string{idleArg + "=1"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
			t.Errorf("the bystander was ended: %v", err)
		}
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

// rewrite edits the recorded run while no daemon runs, as time would: the VMM
// ends, and another process gets its PID.
func (b *box) rewrite(edit func(*banger.Run)) {
	b.t.Helper()
	vms, _, err := b.rows()
	if err != nil {
		b.t.Fatal(err)
	}
	var run banger.Run
	if err := json.Unmarshal([]byte(vms[0].run), &run); err != nil {
		b.t.Fatal(err)
	}
	edit(&run)
	text, err := json.Marshal(run)
	if err != nil {
		b.t.Fatal(err)
	}
	db, err := openDB(filepath.Join(b.State, "banger.db"), "rw")
	if err != nil {
		b.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(b.ctx(), "UPDATE vm SET run = ?", string(text)); err != nil {
		b.t.Fatal(err)
	}
}

// A process that has the PID of a VMM that ended is not touched, whatever it is.
func TestReusedPID(t *testing.T) {
	b := own(t, false)
	for _, begin := range []begin{b.start, b.delete} {
		b.bring("running")
		launch, err := b.launchID()
		if err != nil {
			t.Fatal(err)
		}
		b.killBoth()
		// It even looks like the VMM: only its start time tells them apart.
		other := bystander(t, vmmTool, "-name", "banger-"+launch, "-qmp", "unix:x,server=on,wait=off")
		b.rewrite(func(r *banger.Run) { r.Handle.PID = other.Process.Pid })
		b.up()
		if state := b.settle(); state != "stopped" {
			t.Errorf("the VM is %s (launch %s)", state, launch)
		}
		b.do(begin)
	}
}

// An installation whose records name the VMM of another one, by PID, start time
// and all but the launch, does not touch it.
func TestOtherInstallation(t *testing.T) {
	mine, other := own(t, false), own(t, false)
	other.bring("running")
	theirs := other.show()
	var handle banger.Handle
	vms, _, err := other.rows()
	if err != nil {
		t.Fatal(err)
	}
	var run banger.Run
	if err := json.Unmarshal([]byte(vms[0].run), &run); err != nil {
		t.Fatal(err)
	}
	handle = *run.Handle
	mine.bring("running")
	mine.killBoth()
	mine.rewrite(func(r *banger.Run) {
		launch := r.Launch
		*r.Handle = handle
		r.Handle.Launch = launch
	})
	mine.up()
	if state := mine.settle(); state != "stopped" {
		t.Errorf("the VM with another's VMM is %s", state)
	}
	mine.do(mine.delete)
	if now := other.show(); now.PID != theirs.PID || now.State != banger.StateRunning {
		t.Errorf("the other installation's VM was %+v, is %+v", theirs, now)
	}
	other.kill()
	other.up()
	if state := other.settle(); state != "running" {
		t.Errorf("the other installation's VM is %s", state)
	}
}
