package boot_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guestapi"
	"banger/internal/inguest/boot"
)

// endedBy is the signal by which reboot(2) ends a PID namespace's first process:
// it tells what it would have been (pid_namespaces(7)). The namespace shows the
// host's kernel arguments, and some hosts are VMs whose power off nobody notices.
func endedBy(t *testing.T, what string) syscall.Signal {
	t.Helper()
	if what == boot.Reboot || boot.Halts(read(t, "/proc/cmdline")) {
		return unix.SIGHUP
	}
	return unix.SIGINT
}

func TestEndMachine(t *testing.T) {
	for _, what := range []string{boot.PowerOff, boot.Reboot} {
		sig := endedBy(t, what)
		ws, out := run(t, what, machine(t, nil))
		if ws.Signal() != sig || guestapi.ParseExitMarker(out, "0011223344556677") != what {
			t.Errorf("%s: ended by %v, said %q", what, ws.Signal(), out)
		}
	}
}

func TestHalts(t *testing.T) {
	for cmdline, want := range map[string]bool{"quiet reboot=k panic=1\n": true, "reboot=t": false, "": false, "xreboot=k": false} {
		if got := boot.Halts(cmdline); got != want {
			t.Errorf("%q: %v", cmdline, got)
		}
	}
}

// busybox's and systemd's ways to tell the first process.
func TestSmallInit(t *testing.T) {
	for sig, what := range map[syscall.Signal]string{unix.SIGUSR2: boot.PowerOff, unix.SIGTERM: boot.Reboot, 38: boot.PowerOff, 39: boot.Reboot} {
		root := machine(t, map[string]string{"etc/x": ""})
		var out bytes.Buffer
		cmd := start(t, "small init", root, &out)
		// it has its handlers when it has made this
		for begin := time.Now(); ; time.Sleep(time.Millisecond) {
			if _, err := os.Lstat(filepath.Join(root, "etc/mtab")); err == nil {
				break
			}
			if cmd.Process.Signal(syscall.Signal(0)) != nil || time.Since(begin) > 30*time.Second {
				cmd.Process.Kill()
				cmd.Wait()
				t.Skipf("namespaces are restricted here: %s", &out)
			}
		}
		cmd.Process.Signal(sig)
		cmd.Wait()
		ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if ws.Signal() != endedBy(t, what) || !strings.Contains(out.String(), "exit "+what) {
			t.Errorf("%v: ended by %v, said %q", sig, ws.Signal(), &out)
		}
	}
}
