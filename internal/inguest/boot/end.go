package boot

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guestapi"
)

// The two ways in which a machine ends.
const (
	PowerOff = "poweroff"
	Reboot   = "reboot"
)

// Shutdown is /run/initramfs/shutdown: systemd, done with everything and its
// root read-only, has pivoted into that directory and calls it with what is to
// happen. file is the path by which it was called.
func Shutdown(file string, args []string) {
	launch, _ := os.ReadFile(filepath.Join(filepath.Dir(file), launchFile))
	what := PowerOff // halt too: a VM that merely stands still helps nobody
	if len(args) > 0 && (args[0] == Reboot || args[0] == "kexec") {
		what = Reboot
	}
	endMachine(string(bytes.TrimSpace(launch)), what)
}

// endMachine says on the console how the machine ends, then ends it.
func endMachine(launch, what string) {
	unix.Sync()
	if launch != "" {
		sayExit(guestapi.ExitMarker(launch, what))
	}
	cmdline, _ := os.ReadFile("/proc/cmdline")
	cmd := unix.LINUX_REBOOT_CMD_POWER_OFF
	if what == Reboot || halts(string(cmdline)) {
		cmd = unix.LINUX_REBOOT_CMD_RESTART
	}
	err := unix.Reboot(cmd)
	fmt.Fprintf(os.Stderr, "banger-guest: %s: %v\n", what, err)
	for { // the first process must not end: the kernel would panic
		time.Sleep(time.Hour)
	}
}

// halts reports whether the VMM would not notice a power off. Firecracker does
// not; its kernels are told to reboot through the keyboard controller.
func halts(cmdline string) bool {
	for _, arg := range bytes.Fields([]byte(cmdline)) {
		if string(arg) == "reboot=k" {
			return true
		}
	}
	return false
}

// sayExit writes one line on the console and waits until it is out.
func sayExit(line string) {
	f, err := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		f = os.Stderr
	}
	// A line of its own, whatever the last program left on the console's.
	fmt.Fprintf(f, "\r\n%s\r\n", line)
	unix.IoctlSetInt(int(f.Fd()), unix.TCSBRK, 1) // tcdrain(3)
}
