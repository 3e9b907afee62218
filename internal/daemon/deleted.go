package daemon

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"banger"
)

// How often the daemon looks whether its lock file is still its own, and for how
// long, once it was deleted, whether VMs' directories go the same way: rm -r
// takes its time.
const (
	lookAtLock   = time.Second
	deletedLimit = 30 * time.Second
)

// A place is what became of the lock file that a daemon holds.
type place int

const (
	atHome  place = iota
	moved         // it has another name, probably with the whole state directory
	deleted       // it has none
)

// placeOf says where the file lock, once at path, is. What cannot be told is
// at home: nothing is ended for an error.
func placeOf(lock *os.File, path string) place {
	var held, named unix.Stat_t
	if err := unix.Fstat(int(lock.Fd()), &held); err != nil {
		return atHome
	}
	err := unix.Lstat(path, &named)
	switch {
	case err == nil && named.Ino == held.Ino && named.Dev == held.Dev:
		return atHome
	case err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR):
		return atHome
	case held.Nlink == 0:
		return deleted
	}
	return moved
}

// leave ends a daemon that has lost its state directory, without making anything
// there again. A directory that was moved takes its VMs along: they go on, and
// a daemon that is started on it adopts them. With one that was deleted the
// VMs' disks are gone, and nobody else would know of their VMMs.
func (d *daemon) leave(srv *http.Server, p place) error {
	lost := banger.Errorf(banger.HostUnready, "the state directory %s was moved, or another daemon has taken it over", d.layout.State)
	if p == deleted {
		lost = banger.Errorf(banger.HostUnready, "the state directory %s was deleted under the daemon", d.layout.State)
	}
	now, cancel := context.WithCancel(context.Background())
	cancel() // what is under way could record nothing
	err := errors.Join(lost, d.end(now, srv))
	if p == moved {
		return err
	}
	limit, stop := context.WithTimeout(context.Background(), deletedLimit)
	defer stop()
	tick := time.NewTicker(lookAtLock)
	defer tick.Stop()
	for {
		if err := d.vms.EndOrphans(limit); err != nil {
			d.log.Error("end VMs", "err", err)
		}
		_, there := os.Lstat(d.layout.State)
		_, other := os.Lstat(d.layout.Lock())
		if errors.Is(there, fs.ErrNotExist) || other == nil { // all is gone, or another daemon's
			return err
		}
		select {
		case <-tick.C:
		case <-limit.Done():
			return err
		}
	}
}
