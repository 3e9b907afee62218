package server

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/privileged"
)

type listener = *net.UnixListener

// claim makes this the one banger-root of uid, for as long as the file is open
// here or in the child that inherits it. A nil file means that another one
// listens already. The lock is the directory's own: no user may open it.
func claim(uid uint32) (*os.File, error) {
	dir := privileged.SocketDir(uid)
	for _, d := range []string{privileged.RunDir, dir} {
		if err := os.Mkdir(d, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if err := privileged.RootOwned(d); err != nil {
			return nil, err
		}
		if err := os.Chmod(d, 0o711); err != nil { // to pass through, not to look into
			return nil, err
		}
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	// One that holds the lock either listens, or is about to, or is about to end: a
	// process that was killed was seen to take connections for an instant.
	for n := range 100 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		if c, derr := net.Dial(privileged.Network, privileged.SocketPath(uid)); derr == nil {
			c.Close()
			if n > 2 {
				return nil, f.Close()
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
	}
	return f, nil
}

// listen makes the socket: root's until it is the user's, and nobody else's. It
// lies in a directory that the user cannot change.
func listen(uid uint32) (listener, error) {
	path := privileged.SocketPath(uid)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove a stale socket: %w", err)
	}
	l, err := net.ListenUnix(privileged.Network, &net.UnixAddr{Name: path, Net: privileged.Network})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Lchown(path, int(uid), 0); err != nil {
		return nil, errors.Join(fmt.Errorf("give the socket to uid %d: %w", uid, err), l.Close())
	}
	return l, nil
}

// The descriptors that the detached process inherits.
const (
	lockFD   = 3
	listenFD = 4
)

// detach starts this program again in a session of its own, away from the
// terminal and from whatever was open: sudo returns, and what connects from now
// on is served.
func detach(uid uint32, lock *os.File, l listener) (pid int, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	f, err := l.File()
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// sudo has closed the rest; a shell or a daemon of root's may not have.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return 0, fmt.Errorf("keep back what is open: %w", err) // else older than Linux 5.11
	}
	p, err := os.StartProcess("/proc/self/exe", []string{"banger-root"}, &os.ProcAttr{
		Dir: "/", Env: []string{fmt.Sprintf("SUDO_UID=%d", uid)}, Files: []*os.File{null, null, null, lock, f},
		Sys: &unix.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("start the detached banger-root: %w", err)
	}
	pid = p.Pid // Release forgets it
	return pid, p.Release()
}

// inherited is the listener that detach gave this process, nil if it was started
// by anybody else: sudo closes what it inherits, and nobody but root binds there.
func inherited(uid uint32) listener {
	sa, err := unix.Getsockname(listenFD)
	if un, ok := sa.(*unix.SockaddrUnix); err != nil || !ok || un.Name != privileged.SocketPath(uid) {
		return nil
	}
	unix.CloseOnExec(lockFD)
	f := os.NewFile(listenFD, "listener")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil
	}
	return l.(listener)
}
