package boot

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Server and supervisor watch each other: whoever kills one of them finds it
// started again by the other. The supervisor has a pidfd of the server. The
// server waits for a lock that the supervisor holds, whoever started it.

// supervisorLock is held for as long as there is a supervisor.
const supervisorLock = RunDir + "/supervisor.lock"

// takeSupervisorLock waits until no supervisor is there.
func takeSupervisorLock() (*os.File, error) {
	f, err := os.OpenFile(supervisorLock, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", supervisorLock, err)
	}
	return f, nil
}

// KeepSupervisor is the server's: it starts a supervisor whenever there is none.
// It returns only if it cannot know.
func KeepSupervisor() {
	for {
		lock, err := takeSupervisorLock()
		if err != nil {
			report(fmt.Sprintf("watch supervisor: %v", err))
			return
		}
		report("supervisor ended, starting it again")
		group, watch, err := ownCgroups()
		if err != nil {
			report(fmt.Sprintf("make cgroups: %v", err))
		}
		pid, err := startSupervisor(os.Getpid(), lock, group, watch)
		if err != nil {
			report(fmt.Sprintf("start supervisor: %v", err))
		} else {
			go awaitChild(pid)
		}
		closeAll(lock, group, watch)
		time.Sleep(time.Second) // one that ends at once must not take all of the machine's time
	}
}

// startSupervisor starts a supervisor of the process server, with the lock and
// the cgroup that it is to start another server in; group and watch may be nil.
func startSupervisor(server int, lock, group, watch *os.File) (int, error) {
	fd, err := unix.PidfdOpen(server, 0)
	if err != nil {
		return 0, fmt.Errorf("watch SSH server: %w", err)
	}
	defer unix.Close(fd)
	extra := []uintptr{uintptr(fd), lock.Fd()}
	if group != nil {
		extra = append(extra, group.Fd())
	}
	return startSelf(SuperviseArg, supervisorNice, watch, extra)
}

// closeAll closes what there is of files.
func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
