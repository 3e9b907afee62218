package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Supervise keeps a server running, and the network. The first server is not its
// child: a pidfd of it comes as descriptor 3, the lock that says that there is a
// supervisor as 4, the server's cgroup as 5.
func Supervise() {
	debug.SetGCPercent(10)
	complain("protect supervisor", setOOM(protected))
	Outlive()
	complain("install "+shutdownFile, installShutdown())
	unix.CloseOnExec(4) // held to the end, and by nobody else
	group := handedCgroup(5)
	go keepNetwork()
	awaitPidfd(3)
	unix.Close(3)
	for begin := time.Now(); ; begin = time.Now() {
		report("SSH server ended, starting it again")
		pid, err := startSelf(ServeArg, serverNice, group, nil)
		if err != nil && group != nil { // whoever killed the group has removed it, too
			report(fmt.Sprintf("start SSH server in its cgroup: %v", err))
			pid, err = startSelf(ServeArg, serverNice, nil, nil)
		}
		if err != nil {
			report(fmt.Sprintf("start SSH server: %v", err))
		} else {
			awaitChild(pid)
		}
		// One that ends at once must not take all of the machine's time.
		if lived := time.Since(begin); lived < time.Second {
			time.Sleep(time.Second - lived)
		}
	}
}

// keepNetwork returns once it cannot go on.
func keepNetwork() {
	s, err := LoadState()
	if err == nil {
		err = keeper{s.Identity, time.Second, 64 * time.Second, 5 * time.Minute}.keep()
	}
	report(fmt.Sprintf("keep network: %v", err))
}

func awaitPidfd(fd int) {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func awaitChild(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// installShutdown puts this program where systemd comes back to when it is done.
// A copy, not a mount: systemd pivots into the directory without what is mounted
// in it.
func installShutdown() error {
	s, err := LoadState()
	if err != nil {
		return err
	}
	dir := filepath.Dir(shutdownFile)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, launchFile), []byte(s.Identity.Launch), 0o644); err != nil {
		return err
	}
	from, err := os.Open(selfExe)
	if err != nil {
		return err
	}
	defer from.Close()
	tmp := shutdownFile + ".new"
	to, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, shutdownFile)
}

// Protected runs start, which makes a process, so that the process is not
// protected from the kernel's out-of-memory killer as the server is.
func Protected() func(start func() error) error {
	complain("protect server", setOOM(protected))
	var mu sync.Mutex
	return func(start func() error) error {
		mu.Lock()
		defer mu.Unlock()
		setOOM(unprotected)
		defer setOOM(protected)
		return start()
	}
}

// report tells the kernel's log, where `dmesg` shows it; the console is the
// user's once the image's init has it.
func report(line string) {
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "<4>banger-guest: %s\n", strings.ReplaceAll(line, "\n", " "))
}
