package boot

import (
	"bytes"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// killGrace is what programs get to end before they are killed.
const killGrace = 5 * time.Second

// Signals by which the first process is told to end the machine: systemd's
// (SIGRTMIN+4, +5; glibc's RTMIN is 34), those of busybox's and sysvinit's
// programs, of the kernel's Ctrl-Alt-Del, and SIGPWR.
var endings = map[os.Signal]string{
	syscall.Signal(38): PowerOff, syscall.Signal(39): Reboot,
	unix.SIGUSR1: PowerOff, unix.SIGUSR2: PowerOff, unix.SIGPWR: PowerOff,
	unix.SIGTERM: Reboot, unix.SIGINT: Reboot,
}

// smallInit is the first process of an image without an init of its own: it
// reaps what others leave and ends the machine when it is told to.
func smallInit(launch string) error {
	unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) // Ctrl-Alt-Del becomes a SIGINT
	c := make(chan os.Signal, 16)
	signal.Notify(c, unix.SIGCHLD)
	for s := range endings {
		signal.Notify(c, s)
	}
	os.Symlink("/proc/self/mounts", "/etc/mtab") // busybox's mount and df look there
	for s := range c {
		reap()
		if what, ok := endings[s]; ok {
			endAll()
			unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
			endMachine(launch, what)
		}
	}
	return errors.New("signals ended") // cannot be: c is never closed
}

func reap() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if pid <= 0 && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// endAll asks every process to end, waits for a while, and kills the rest. The
// server and its supervisor end with the machine.
func endAll() {
	others := func() (pids []int) {
		dirs, _ := filepath.Glob("/proc/[0-9]*")
		for _, d := range dirs {
			pid, _ := strconv.Atoi(filepath.Base(d))
			exe, err := os.Readlink(filepath.Join(d, "exe")) // kernel threads have none
			argv, _ := os.ReadFile(filepath.Join(d, "cmdline"))
			if pid != 1 && err == nil && exe != "" && !bytes.HasPrefix(argv, []byte(ownName+"\x00")) {
				pids = append(pids, pid)
			}
		}
		return pids
	}
	for _, pid := range others() {
		unix.Kill(pid, unix.SIGTERM)
		unix.Kill(pid, unix.SIGCONT)
	}
	for begin := time.Now(); time.Since(begin) < killGrace && len(others()) > 0; time.Sleep(20 * time.Millisecond) {
		reap()
	}
	for _, pid := range others() {
		unix.Kill(pid, unix.SIGKILL)
	}
	for range 50 { // killed processes that the kernel holds on to are not waited for
		reap()
		if len(others()) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}
