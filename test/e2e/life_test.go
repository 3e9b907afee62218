package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger"
)

// A VMM that is killed is seen by the event of its end, not at the next look:
// the list tells the truth in much less than a second.
func TestVMMKilled(t *testing.T) {
	b := common(t)
	v := b.boot("doomed")
	if err := syscall.Kill(v.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	v = b.until("doomed", limit, func(v banger.VM) bool { return v.State != banger.StateRunning })
	t.Logf("report: a VMM's end was told after %v", time.Since(killed).Round(time.Millisecond))
	if v.PID != 0 || v.Ready {
		t.Errorf("%+v", v)
	}
	b.ok("vm", "wait", "doomed", "--for", "stopped", "--timeout", limit.String())
	v = b.show("doomed")
	if v.LastExit == nil || v.LastExit.Cause == banger.ExitGuest {
		t.Errorf("the end of a killed VMM is told as %+v", v.LastExit)
	}
	if r := b.run("vm", "exec", "-n", "doomed", "--", "true"); r.code != 4 {
		t.Errorf("exec in a stopped VM: %+v", r)
	}
	b.ok("vm", "start", "doomed")
	b.in("doomed", "true")
}

// An exec whose VM dies under it ends, with banger's own failure.
func TestVMMKilledUnderExec(t *testing.T) {
	b := common(t)
	v := b.boot("under")
	cmd := b.Command(t.Context(), "vm", "exec", "under", "--", "sh", "-c", "echo ready; cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	readUntil(t, out, "ready")
	if err := syscall.Kill(v.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // exit code below
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatal("exec hangs after its VM's death")
	}
	if code := cmd.ProcessState.ExitCode(); code != 125 {
		t.Errorf("exit code %d, want 125", code)
	}
}

// What the guest does to itself is reported for what it is; a reboot comes
// back with its disk.
func TestGuestRebootAndPoweroff(t *testing.T) {
	b := common(t)
	before := b.boot("turns")
	id := b.in("turns", "cat /etc/machine-id")
	b.in("turns", "echo kept >/root/file; sync")
	b.booted("turns")
	b.ends("turns", "reboot")
	b.ok("vm", "wait", "turns", "--timeout", limit.String()) // not for the run that is going down
	after := b.show("turns")
	if after.PID == before.PID || !after.Ready || !after.StartedAt.After(before.StartedAt) {
		t.Errorf("after a reboot it is %+v", after)
	}
	if after.LastExit == nil || after.LastExit.Cause != banger.ExitGuest || !after.LastExit.Reboot {
		t.Errorf("a reboot is told as %+v", after.LastExit)
	}
	if after.Addr != before.Addr {
		t.Errorf("the address changed from %s to %s", before.Addr, after.Addr)
	}
	if got := b.in("turns", "cat /root/file; cat /etc/machine-id"); got != "kept\n"+id {
		t.Errorf("after the reboot: %q", got)
	}
	b.booted("turns")
	b.ends("turns", "poweroff")
	if r := b.run("vm", "wait", "turns", "--for", "booted", "--timeout", limit.String()); r.code != 4 {
		t.Errorf("wait for a guest that powers off: %+v", r)
	}
	b.ok("vm", "wait", "turns", "--for", "stopped", "--timeout", limit.String())
	v := b.show("turns")
	if v.State != banger.StateStopped || v.LastExit == nil || v.LastExit.Cause != banger.ExitGuest || v.LastExit.Reboot {
		t.Errorf("a poweroff is told as %s, %+v", v.State, v.LastExit)
	}
	b.ok("vm", "start", "turns")
	b.in("turns", "grep -q kept /root/file")
}

func TestWrongState(t *testing.T) {
	b := web(t)
	for _, args := range [][]string{
		{"vm", "start", "web"}, {"vm", "delete", "web"}, {"rm", "web"}, {"vm", "set", "web", "--cpu", "2"},
	} {
		if r := b.run(args...); r.code != 4 || !strings.Contains(r.err, "running") {
			t.Errorf("%q of a running VM: %+v", args, r)
		}
	}
	b.in("web", "true")
}

func TestStopKillRestart(t *testing.T) {
	b := common(t)
	first := b.boot("obeys")
	b.in("obeys", "echo kept >/root/file; sync")
	b.ok("vm", "restart", "obeys")
	if v := b.show("obeys"); v.PID == first.PID || !v.Ready {
		t.Errorf("after restart: %+v", v)
	}
	b.in("obeys", "grep -q kept /root/file")
	b.ok("vm", "kill", "obeys")
	if v := b.show("obeys"); v.State != banger.StateStopped || v.LastExit == nil || v.LastExit.Cause != banger.ExitKilled {
		t.Errorf("after kill: %s, %+v", v.State, v.LastExit)
	}
	b.ok("vm", "set", "obeys", "--memory", "300MiB")
	b.ok("vm", "start", "obeys")
	b.in("obeys", "grep -q kept /root/file")
	b.ok("vm", "stop", "obeys", "--timeout", "0s")
}

// A VMM never runs as root; what it owns, nobody else reads.
func TestVMMIsNotRoot(t *testing.T) {
	b := web(t)
	v := b.show("web")
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(v.PID), "status"))
	if err != nil {
		t.Fatal(err)
	}
	uid := ""
	for line := range strings.Lines(string(status)) {
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
			fields := strings.Fields(ids)
			uid = fields[0]
			for _, f := range fields {
				if f == "0" || f != uid {
					t.Errorf("the VMM's user IDs are %v", fields)
				}
			}
		}
		if caps, ok := strings.CutPrefix(line, "CapEff:"); ok && strings.Trim(strings.TrimSpace(caps), "0") != "" {
			t.Errorf("the VMM has capabilities %s", caps)
		}
	}
	if os.Geteuid() != 0 && uid != strconv.Itoa(os.Geteuid()) {
		t.Errorf("the VMM runs as %s", uid)
	}
	dir := filepath.Dir(v.SerialLog)
	fi, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o700 || strconv.Itoa(int(fi.Sys().(*syscall.Stat_t).Uid)) != uid {
		t.Errorf("%s: mode %v, user %d, want 0700 and %s", dir, fi.Mode(), fi.Sys().(*syscall.Stat_t).Uid, uid)
	}
	// The joined initramfs holds secrets: it is gone once the VMM has read it.
	left, err := filepath.Glob(filepath.Join(b.Run, "vms", "*", "*.initrd"))
	if err != nil || len(left) > 0 {
		t.Errorf("initramfs left: %v, %v", left, err)
	}
	cmdline, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(v.PID), "cmdline"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(cmdline), "-sandbox\x00on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny") {
		t.Errorf("QEMU runs without its sandbox: %q", cmdline)
	}
	if strings.Contains(string(cmdline), "PRIVATE KEY") {
		t.Error("a key is in QEMU's arguments")
	}
}

// Two creates are under way at the same moment.
func TestCreatesAreParallel(t *testing.T) {
	b := common(t)
	b.ok("vm", "list")
	done := make(chan result, 2)
	for _, name := range []string{"left", "right"} {
		t.Cleanup(func() { b.run("vm", "delete", "--force", name) })
		go func() { done <- b.run(append([]string{"vm", "create", "--name", name}, cheap()...)...) }()
	}
	c := b.client()
	both := false
	for range 2 {
		for r := (result{}); ; {
			select {
			case r = <-done:
				if r.code != 0 {
					t.Error(r.err)
				}
			default:
				vms, err := c.ListVMs(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				starting := 0
				for _, v := range vms {
					if v.State == banger.StateStarting && v.PID != 0 {
						starting++
					}
				}
				both = both || starting == 2
				continue
			}
			break
		}
	}
	if !both {
		t.Error("the two VMs never booted at the same time")
	}
}

// A kernel's panic is told as one, and is no wish to be started again.
func TestKernelPanic(t *testing.T) {
	b := common(t)
	b.boot("panics")
	// Loaded already, unless the bundle is an older one.
	b.in("panics", "modprobe pvpanic-mmio")
	if r := b.run("vm", "exec", "-n", "panics", "--", "sh", "-c", "echo c >/proc/sysrq-trigger"); r.code != 125 {
		t.Errorf("the command outlived its kernel: %+v", r)
	}
	b.ok("vm", "wait", "panics", "--for", "stopped", "--timeout", limit.String())
	if v := b.show("panics"); v.State != banger.StateStopped || v.LastExit == nil || v.LastExit.Reboot || !strings.Contains(v.LastExit.Detail, "panicked") {
		t.Errorf("told as %s, %+v", v.State, v.LastExit)
	}
	if log := b.ok("vm", "logs", "panics"); !strings.Contains(log, "Kernel panic") {
		t.Error("the console does not say it")
	}
}
