package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/api"
	"banger/internal/host"
	"banger/internal/version"
)

// Clients that look whether a daemon lives hold the lock shared for an
// instant: the daemon tries again for this long.
const (
	lockTries = 50
	lockEvery = 20 * time.Millisecond
)

// takeLock makes this process the one daemon of its state directory, for as
// long as the file is open: the kernel drops the lock with its holder.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, banger.Errorf(banger.HostUnready, "open the daemon's lock: %w", err).WithRemedy("make the state directory writable, or set BANGER_STATE_DIR to one that is")
	}
	for range lockTries {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(lockEvery)
	}
	if err == nil {
		// What a daemon that was killed wrote is not true of this one: until it
		// announces itself, clients are to know nothing rather than that.
		err = f.Truncate(0)
	}
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, banger.Errorf(banger.Exists, "another bangerd holds %s", path).WithRemedy("banger daemon status")
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// announce writes where this daemon listens and which build it is.
func (d *daemon) announce(lock *os.File) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own binary: %w", err)
	}
	st, err := os.Stat(exe)
	if err != nil {
		return fmt.Errorf("find own binary: %w", err)
	}
	self, err := host.ProcOf(os.Getpid())
	if err != nil {
		return err
	}
	b, err := json.Marshal(api.LockFile{
		PID: self.PID, Started: self.Started, Build: version.Build(), API: api.Version,
		Exe: exe, ExeMtime: st.ModTime().UnixNano(), Socket: d.layout.Socket(), Log: d.layout.DaemonLog(),
		Config: d.layout.ConfigFile(), LogLevel: strings.ToLower(d.config.LogLevel.String()),
	})
	if err != nil {
		return err
	}
	if err := lock.Truncate(0); err != nil {
		return fmt.Errorf("write the lock file: %w", err)
	}
	if _, err := lock.WriteAt(b, 0); err != nil {
		return fmt.Errorf("write the lock file: %w", err)
	}
	return nil
}
