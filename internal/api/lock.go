package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// A LockFile is what a daemon writes into the state directory's lock file,
// which it keeps locked (flock LOCK_EX) as long as it lives: clients find the
// daemon there, whatever their environment says. Readers hold the lock shared
// for an instant (ReadLock): a daemon that does not get it tries again for a
// second before it says that another one is there.
type LockFile struct {
	PID      int    `json:"pid"`
	Started  uint64 `json:"started"`   // clock ticks since boot, field 22 of /proc/PID/stat
	Build    string `json:"build"`     // version.Build of the daemon
	API      int    `json:"api"`       // Version
	Exe      string `json:"exe"`       // path of its binary, symlinks resolved
	ExeMtime int64  `json:"exe_mtime"` // of Exe when the daemon started, nanoseconds since 1970
	Socket   string `json:"socket"`    // where it listens; "" until it does
	Log      string `json:"log"`       // its own log
	Config   string `json:"config"`    // the configuration file that it read, or would have
	LogLevel string `json:"log_level"` // debug, info, warn, error
}

// maxLockFile bounds the lock file: paths are at most 4 KiB each.
const maxLockFile = 64 << 10

// ReadLock reads the lock file at path and tells whether a daemon holds it. No
// file means no daemon. A daemon that holds the lock and has not written the
// file yet gives held with the zero LockFile or that of the daemon before:
// ask again while nobody answers at Socket.
//
// The kernel drops a flock with its holder, so a file left behind by a daemon
// that was killed is not held, whoever has its PID now.
func ReadLock(path string) (l LockFile, held bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return LockFile{}, false, nil
	}
	if err != nil {
		return LockFile{}, false, err
	}
	defer f.Close() // drops our shared lock, if we got it

	switch err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		held = true
	case err != nil:
		return LockFile{}, false, fmt.Errorf("lock %s: %w", path, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxLockFile))
	if err != nil {
		return LockFile{}, false, err
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return LockFile{}, held, nil
	}
	if err := json.Unmarshal(b, &l); err != nil {
		if held { // the daemon is writing it
			return LockFile{}, true, nil
		}
		return LockFile{}, false, nil
	}
	return l, held, nil
}
