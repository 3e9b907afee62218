package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"banger"
)

// Made reports whether an installation is in the state directory: its database, or the
// lock that goes last.
func (l Layout) Made() bool {
	for _, path := range []string{l.DB(), l.Lock()} {
		if fi, err := os.Lstat(path); err == nil && fi.Mode().IsRegular() {
			return true
		}
	}
	return false
}

// Remove deletes what banger has made in the state and run directories, and these
// themselves unless something of somebody else's is in them, which it returns the paths
// of. It is to be called when no daemon runs; Busy if one does after all. None can start
// meanwhile. What is gone already is no error. Where no installation is (Made) it
// deletes no file, whatever its name: anybody may have an id_ed25519.
func (l Layout) Remove() (others []string, err error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	if l.Made() {
		if others, err = l.removeFiles(); err != nil {
			return others, err
		}
	}
	for _, dir := range []string{l.Run, l.State} { // Run may lie in State
		more, err := removeUnlessUsed(dir)
		if others = append(others, more...); err != nil {
			return others, err
		}
	}
	slices.Sort(others)
	return slices.Compact(others), nil
}

func (l Layout) removeFiles() (others []string, err error) {
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
	isVM := func(name string) bool { return banger.VMID(name).Valid() }
	for _, d := range []struct {
		path string
		ours func(name string) bool
	}{
		{l.RunVMs(), isVM}, {l.VMs(), isVM},
		{l.Blobs(), func(name string) bool {
			return banger.Digest("sha256:"+name).Valid() || strings.HasPrefix(name, ".new-") // of package image
		}},
		{l.Failed(), func(name string) bool { return strings.HasSuffix(name, ".log") }},
	} {
		more, err := removeOurs(d.path, d.ours)
		if others = append(others, more...); err != nil {
			return others, err
		}
	}
	all := []string{filepath.Join(l.Run, "bangerd.sock"), l.Booted()} // a BANGER_SOCKET is the daemon's to remove
	all = append(all, l.SSHDir(), l.Key(), l.DaemonLog())
	for _, db := range []string{"-wal", "-shm", "-journal", ""} {
		all = append(all, l.DB()+db)
	}
	all = append(all, l.Lock()) // last: until then whoever was killed over it is told to go on
	for _, path := range all {
		if err := os.RemoveAll(path); err != nil { // it follows no link
			return others, err
		}
	}
	return others, nil
}

// removeOurs deletes from a directory what has a name that banger gives, and the
// directory unless something else is in it, which it returns.
func removeOurs(dir string, ours func(name string) bool) (others []string, err error) {
	if fi, err := os.Lstat(dir); err == nil && !fi.IsDir() { // a link leads to what is somebody's
		return []string{dir}, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if ours(e.Name()) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil { // it follows no link
				return nil, err
			}
		}
	}
	return removeUnlessUsed(dir)
}

// removeUnlessUsed deletes a directory if it is empty, and returns what is in it if not.
func removeUnlessUsed(dir string) (others []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		others = append(others, filepath.Join(dir, e.Name()))
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && len(entries) == 0 {
		return nil, err
	}
	return others, nil
}
