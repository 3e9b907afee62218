// Package launch finds the daemon of an installation by its lock file, starts
// it when there is none, and replaces it when it comes from an older build.
package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
	"banger/internal/cli/streams"
	"banger/internal/layout"
	"banger/internal/version"
)

// A Launcher knows one installation. Make one with New.
type Launcher struct {
	Layout   layout.Layout
	IO       *streams.Streams
	Exe      string        // this program, symlinks resolved: bangerd is looked for beside it
	Build    string        // of this program
	Environ  []string      // a daemon is given a part of it
	Patience time.Duration // how long a daemon may take to answer, or to end
}

// poll is how often a lock file is looked at while a daemon comes or goes.
// Inotify would tell sooner, but not that a lock was dropped.
const poll = 10 * time.Millisecond

// New returns the Launcher of this process.
func New(l layout.Layout, s *streams.Streams) (*Launcher, error) {
	exe, err := os.Executable()
	if err == nil {
		exe, err = filepath.EvalSymlinks(exe)
	}
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return &Launcher{
		Layout: l, IO: s, Exe: exe, Build: version.Build(),
		Environ: os.Environ(), Patience: 30 * time.Second,
	}, nil
}

// ErrNone is that no daemon runs.
var ErrNone = &banger.Error{
	Code: banger.HostUnready, Message: "bangerd is not running", Remedy: "banger daemon start",
	Err: client.ErrNoDaemon,
}

// Find returns a client of the daemon that runs, whatever its build; ErrNone
// if there is none. It changes nothing.
func (l *Launcher) Find(ctx context.Context) (*client.Client, api.LockFile, error) {
	lock, held, err := l.announced(ctx)
	if err != nil {
		return nil, lock, err
	}
	if !held || !l.answers(ctx, lock) {
		return nil, lock, ErrNone
	}
	return client.New(lock.Socket), lock, nil
}

// announceLimit is how long a daemon that holds the lock may take to say where
// it listens, for those who would not start one.
const announceLimit = time.Second

// announced is look, but for a daemon that is just writing the file: it listens
// already, or soon.
func (l *Launcher) announced(ctx context.Context) (api.LockFile, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, announceLimit)
	defer cancel()
	for {
		lock, held, err := l.look()
		if err != nil || !held || lock.Socket != "" || pause(ctx) != nil {
			return lock, held, err
		}
	}
}

// Connect returns a client of a daemon that this program can talk to: the one
// that runs, or one that it starts, or one that it puts in the place of an
// older one. Any number of programs may do so at once.
func (l *Launcher) Connect(ctx context.Context) (*client.Client, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.Patience, banger.Errorf(banger.TimedOut,
		"bangerd has not answered within %v", l.Patience).WithRemedy("banger daemon logs").WithLog(l.Layout.DaemonLog()))
	defer cancel()
	for {
		lock, err := l.running(ctx)
		if err != nil {
			return nil, err
		}
		again, err := l.replace(ctx, lock)
		if err != nil {
			return nil, err
		}
		if !again {
			l.tellIgnored(lock)
			return client.New(lock.Socket), nil
		}
	}
}

// running returns the lock file of a daemon that answers; it starts one if none
// holds the lock.
func (l *Launcher) running(ctx context.Context) (api.LockFile, error) {
	var child *daemon
	for {
		lock, held, err := l.look()
		if err != nil {
			return lock, err
		}
		if held && l.answers(ctx, lock) {
			child.giveWay(ctx, lock.PID)
			return lock, nil
		}
		if !held {
			switch {
			case child == nil:
				if l.byUnit(ctx) {
					child = &daemon{} // systemd's: it is not ended as far as we know
				} else if child, err = l.start(); err != nil {
					return lock, err
				}
			case child.ended():
				// When another one was faster ours ends, too, but then the
				// lock is held: look once more.
				if _, held, _ := api.ReadLock(l.Layout.Lock()); !held {
					return lock, child.failure()
				}
			}
		}
		if err := pause(ctx); err != nil {
			return lock, err
		}
	}
}

// Check returns an error when the installation is another user's, or others
// could write to it.
func (l *Launcher) Check() error {
	if err := ours(l.Layout.State, "the installation in "+l.Layout.State); err != nil {
		return err
	}
	return l.Layout.Check()
}

// look reads the lock file, after a check that the installation is ours.
func (l *Launcher) look() (api.LockFile, bool, error) {
	if err := l.Check(); err != nil {
		return api.LockFile{}, false, err
	}
	lock, held, err := api.ReadLock(l.Layout.Lock())
	if err != nil {
		return lock, held, banger.Errorf(banger.HostUnready, "read the daemon's lock file: %w", err).
			WithRemedy("set BANGER_STATE_DIR to a directory of your own; ls -l %s", l.Layout.Lock())
	}
	if held && lock.Socket != "" {
		err = ours(lock.Socket, "the daemon at "+lock.Socket)
	}
	return lock, held, err
}

// answers says whether the daemon listens already (or still).
func (l *Launcher) answers(ctx context.Context, lock api.LockFile) bool {
	if lock.Socket == "" {
		return false
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", lock.Socket)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// Stop ends the daemon that runs and returns when it has ended, ErrNone if
// there is none; VMs go on.
func (l *Launcher) Stop(ctx context.Context) error {
	c, lock, err := l.Find(ctx)
	if err != nil {
		return err
	}
	ended := watchProcess(lock.PID) // while it holds the lock, the PID is its own
	if err := c.StopDaemon(ctx, api.StopDaemonRequest{}); err != nil && !hungUp(err) {
		return err
	}
	patience := 2 * l.Patience // it waits for its operations first
	ctx, cancel := context.WithTimeoutCause(ctx, patience, banger.Errorf(banger.TimedOut,
		"bangerd (process %d) has not ended within %v", lock.PID, patience).WithRemedy("kill %d", lock.PID).WithLog(l.Layout.DaemonLog()))
	defer cancel()
	if err := l.gone(ctx, lock); err != nil {
		return err
	}
	return ended(ctx)
}

// watchProcess returns a function that waits until the process that now has
// this PID has ended: the lock goes an instant before it. A process that cannot
// be watched, as from another PID namespace, is not waited for.
func watchProcess(pid int) func(context.Context) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return func(context.Context) error { return nil }
	}
	return func(ctx context.Context) error {
		defer unix.Close(fd)
		for {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if n, err := unix.Poll(fds, int(poll.Milliseconds())); n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
				return nil
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
}

// hungUp says that a daemon was not there any more for its answer: it ended.
func hungUp(err error) bool {
	return errors.Is(err, client.ErrNoDaemon) || errors.Is(err, io.EOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// gone waits until the daemon of lock does not hold it any more.
func (l *Launcher) gone(ctx context.Context, lock api.LockFile) error {
	for {
		now, held, err := l.look()
		if err != nil {
			return err
		}
		if !held || now.PID != lock.PID && now.PID != 0 {
			return nil
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context) error {
	t := time.NewTimer(poll)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
