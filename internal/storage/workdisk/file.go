package workdisk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/storage"
)

func path(d storage.Disk) string { return filepath.Join(d.Dir, fileName) }

// open opens the disk's file, which may have been swapped for anything by who owns
// its directory: no link is followed, no FIFO waited for, and it is the owner's.
func open(d storage.Disk, flags int) (*os.File, error) {
	f, err := os.OpenFile(path(d), flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	owner := uint32(os.Geteuid())
	if d.Owner != nil {
		owner = d.Owner.UID
	}
	err = unix.Fstat(int(f.Fd()), &st)
	switch {
	case err != nil:
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = fmt.Errorf("%s is not a regular file", path(d))
	case st.Uid != owner:
		err = fmt.Errorf("%s belongs to user %d, not %d", path(d), st.Uid, owner)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// broken says what is wrong with a disk that should be there.
func broken(d storage.Disk, err error) error {
	code, what := banger.Internal, "cannot be used"
	if errors.Is(err, fs.ErrNotExist) {
		code, what = banger.NotFound, "is gone"
	}
	return banger.Errorf(code, "the work disk of VM %s %s: %w", d.VM, what, err).
		WithRemedy("put %s back, or delete the VM: banger rm %s", path(d), d.VM)
}

// full turns err into what it comes from when the file system has no room or is
// read-only: mke2fs says so in words only.
func full(dir string, err error) error {
	var st unix.Statfs_t
	const enough = 1 << 20
	switch e := unix.Statfs(dir, &st); {
	case errors.Is(err, unix.EFBIG):
		return banger.Errorf(banger.Invalid, "the file system of %s has no files of that size: %w", dir, err).WithRemedy("ask for less, such as --work-disk 100GiB: it can grow later")
	case e != nil:
		return err
	case st.Flags&unix.ST_RDONLY != 0:
		return banger.Errorf(banger.HostUnready, "%s is read-only: %w", dir, err).WithRemedy("make it writable: findmnt -T %s", dir)
	case st.Bavail*uint64(st.Bsize) < enough:
		return banger.Errorf(banger.HostUnready, "%s is full: %w", dir, err).WithRemedy("make room: df -h %s", dir)
	}
	return err
}

// sweep removes what killed Creates left in dir.
func sweep(dir string) error {
	ents, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range ents {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			err = errors.Join(err, remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

func remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
