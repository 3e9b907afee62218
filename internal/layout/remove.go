package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"banger"
)

// Remove deletes what banger has made in the state and run directories, and these
// themselves unless something of somebody else's is in them, which it returns the paths
// of. It is to be called when no daemon runs; Busy if one does after all. None can start
// meanwhile. What is gone already is no error.
func (l Layout) Remove() (others []string, err error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(l.Lock(), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err == nil {
		defer lock.Close()
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, banger.Errorf(banger.Busy, "a daemon uses %s", l.State).WithRemedy("banger daemon stop --all, and then again")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("lock %s: %w", l.Lock(), err)
	}
	all := []string{filepath.Join(l.Run, "bangerd.sock"), l.RunVMs(), l.Booted()} // a BANGER_SOCKET is the daemon's to remove
	all = append(all, l.VMs(), l.Blobs(), l.Failed(), l.SSHDir(), l.Key(), l.DaemonLog())
	for _, db := range []string{"-wal", "-shm", "-journal", ""} {
		all = append(all, l.DB()+db)
	}
	all = append(all, l.Lock()) // last: until then whoever was killed over it is told to go on
	for _, path := range all {
		if err := os.RemoveAll(path); err != nil { // it follows no link
			return nil, err
		}
	}
	for _, dir := range []string{l.Run, l.State} { // Run may lie in State
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return others, err
		}
		for _, e := range entries {
			others = append(others, filepath.Join(dir, e.Name()))
		}
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && len(entries) == 0 {
			return others, err
		}
	}
	return others, nil
}
