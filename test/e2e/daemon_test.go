package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"

	"banger"
	"banger/test/sandbox"
)

// kill ends a process for good and returns when it is gone.
func kill(t *testing.T, pid int) {
	t.Helper()
	fd, err := pidfdOpen(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := pidfdWait(fd, limit); err != nil {
		t.Fatalf("wait for the end of process %d: %v", pid, err)
	}
}

// daemonPID is the process that holds the lock.
func (b box) daemonPID() int {
	b.t.Helper()
	lock, held, err := b.Lock()
	if err != nil || !held {
		b.t.Fatalf("no daemon: %v", err)
	}
	return lock.PID
}

// The daemon is killed and started again: the VMM is the same process, and
// exec goes on.
func TestDaemonKilled(t *testing.T) {
	b := fresh(t)
	before := b.boot("stays")
	b.in("stays", "echo kept >/run/file")
	pid := b.daemonPID()
	kill(t, pid)
	after := b.show("stays")
	if b.daemonPID() == pid {
		t.Fatal("the daemon is the same")
	}
	if after.PID != before.PID || after.State != banger.StateRunning || !after.StartedAt.Equal(before.StartedAt) {
		t.Errorf("adopted as %+v, was %+v", after, before)
	}
	if got := b.in("stays", "cat /run/file"); got != "kept" {
		t.Errorf("after the adoption: %q", got)
	}
	b.ok("vm", "ssh", "stays", "--", "true")

	// An adopted VM's end is known for what it is, too.
	b.booted("stays")
	kill(t, b.daemonPID())
	b.ends("stays", "poweroff")
	b.ok("vm", "wait", "stays", "--for", "stopped", "--timeout", limit.String())
	if v := b.show("stays"); v.LastExit == nil || v.LastExit.Cause != banger.ExitGuest {
		t.Errorf("the end of an adopted VM is told as %+v", v.LastExit)
	}
}

// What happens while no daemon runs is found out by the next one.
func TestEndsWithoutDaemon(t *testing.T) {
	b := fresh(t)
	v := b.boot("alone")
	b.booted("alone")
	b.ok("vm", "wait", "alone", "--for", "booted", "--timeout", limit.String())
	b.in("alone", "nohup sh -c 'while ! [ -e /run/go ]; do :; done; poweroff' >/dev/null 2>&1 & echo started")
	b.in("alone", "touch /run/go")
	kill(t, b.daemonPID())
	b.ok("vm", "wait", "alone", "--for", "stopped", "--timeout", limit.String())
	if got := b.show("alone"); got.LastExit == nil || got.LastExit.Cause != banger.ExitGuest || got.LastExit.Reboot {
		t.Errorf("told as %+v", got.LastExit)
	}

	if out := b.ok("events"); !strings.Contains(out, `"type":"stopped","vm":"`+string(v.ID)+`","name":"alone","exit":{"cause":"guest"`) {
		t.Errorf("the next daemon's events:\n%s", out)
	}

	b.ok("vm", "start", "alone")
	v = b.show("alone")
	kill(t, b.daemonPID())
	kill(t, v.PID)
	if got := b.show("alone"); got.State == banger.StateRunning || got.LastExit == nil || got.LastExit.Cause != banger.ExitUnknown {
		t.Errorf("a VMM killed while no daemon ran is told as %s, %+v", got.State, got.LastExit)
	}
	b.ok("vm", "start", "alone")
	b.in("alone", "true")
}

// The host was rebooted: all processes and the run directory are gone, the
// state is there.
func TestHostReboot(t *testing.T) {
	b := fresh(t)
	before := b.boot("survivor", "--autostart")
	b.ok(append([]string{"vm", "create", "--no-start", "--name", "idle"}, cheap()...)...)
	b.in("survivor", "echo kept >/root/file; sync")
	kill(t, b.daemonPID())
	kill(t, before.PID)
	if err := os.RemoveAll(b.Run); err != nil {
		t.Fatal(err)
	}
	if v := b.show("idle"); v.State != banger.StateStopped { // which starts the daemon
		t.Errorf("after the reboot: %+v", v)
	}
	b.ok("vm", "wait", "survivor", "--timeout", limit.String())
	after := b.show("survivor")
	if after.PID == before.PID || after.LastExit == nil || after.LastExit.Cause != banger.ExitUnknown {
		t.Errorf("after the reboot: %+v", after)
	}
	if after.Addr != before.Addr || after.MAC != before.MAC {
		t.Errorf("address %s %s, was %s %s", after.Addr, after.MAC, before.Addr, before.MAC)
	}
	if got := b.in("survivor", "cat /root/file; hostname -I"); got != "kept\n"+before.Addr.String()+" " {
		t.Errorf("in the guest: %q", got)
	}
}

// The client's terminal is closed, and Ctrl-C reaches its whole foreground
// group, right after create has returned: daemon and VM live on.
func TestTerminalClosedAfterCreate(t *testing.T) {
	b := fresh(t)
	cmd := b.Command(t.Context(), "help")
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c",
		"trap '' INT; banger vm create -q --name hup --cpu 1 --memory 256MiB && echo CREATED; while :; do read line; done"}
	ptmx, err := pty.Start(cmd) // the daemon is started from this terminal
	if err != nil {
		t.Fatal(err)
	}
	readUntil(t, ptmx, "CREATED")
	if _, err := ptmx.Write([]byte{3}); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	pid := b.daemonPID()
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := ptmx.Close(); err != nil { // SIGHUP
		t.Fatal(err)
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatal(err)
	}
	_ = cmd.Wait() // hung up on
	if b.daemonPID() != pid {
		t.Error("the daemon ended with the terminal")
	}
	if v := b.show("hup"); v.State != banger.StateRunning {
		t.Errorf("%+v", v)
	}
	b.in("hup", "true")
}

// A client that is killed while its VM starts does not stop the operation; one
// that is interrupted does, and what it made is taken back.
func TestClientEndsDuringCreate(t *testing.T) {
	b := fresh(t)
	b.ok("vm", "list")
	begin := func(name string, args ...string) (end func(syscall.Signal) int) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		cmd := b.Command(ctx, append(args, cheap("--name", name)...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		b.until(name, limit, func(v banger.VM) bool { return v.PID != 0 })
		return func(s syscall.Signal) int {
			defer cancel()
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // exit code below
			return cmd.ProcessState.ExitCode()
		}
	}
	begin("goes-on", "vm", "create")(syscall.SIGKILL)
	b.ok("vm", "wait", "goes-on", "--for", "ready", "--timeout", limit.String())
	b.in("goes-on", "true")

	if code := begin("taken-back", "run")(syscall.SIGINT); code != 1 {
		t.Errorf("an interrupted run ended with exit code %d, want 1", code)
	}
	if r := b.run("vm", "show", "taken-back"); r.code != 3 {
		t.Errorf("an interrupted run left its VM: %+v", r)
	}
}

// The image's file is deleted, or changed, under a stopped VM.
func TestImageDamaged(t *testing.T) {
	b := fresh(t)
	bundle := littleBundle(t, b.Dir)
	b.Set("BANGER_RUNTIME_DIR", bundle)
	b.ok("vm", "create", "--name", "victim", "--no-start")
	if err := os.RemoveAll(bundle); err != nil {
		t.Fatal(err)
	}
	blobs, err := filepath.Glob(filepath.Join(b.State, "blobs", "*"))
	if err != nil || len(blobs) != 5 {
		t.Fatalf("blobs: %v, %v", blobs, err)
	}
	root := ""
	for _, f := range blobs {
		if fi, err := os.Stat(f); err == nil && fi.Size() == littleSize {
			root = f
		}
	}
	f, err := os.OpenFile(root, os.O_WRONLY, 0)
	if err != nil && os.Geteuid() == 0 {
		t.Fatal(err)
	}
	if err == nil {
		if _, err := f.WriteAt([]byte("changed"), 1<<20); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if r := b.run("vm", "start", "victim"); r.code == 0 || !strings.Contains(r.err, "little") {
			t.Errorf("start with a changed image: %+v", r)
		}
	}
	if err := os.Remove(root); err != nil {
		t.Fatal(err)
	}
	r := b.run("vm", "start", "victim")
	if r.code == 0 || !strings.Contains(r.err, "little") || strings.Contains(r.err, "console") {
		t.Errorf("start without its image: %+v", r)
	}
	t.Logf("the user reads:\n%s", r.err)
	b.ok("vm", "delete", "victim")
}

// A daemon of another installation is not touched.
func TestInstallationsAreApart(t *testing.T) {
	b := common(t)
	b.ok("vm", "list")
	other, err := sandbox.Make()
	if err != nil {
		t.Fatal(err)
	}
	o := box{Sandbox: other, t: t}
	o.ok("vm", "list")
	pid := b.daemonPID()
	if o.daemonPID() == pid {
		t.Error("two installations share a daemon")
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if b.daemonPID() != pid {
		t.Error("ending one daemon ended the other")
	}
}
