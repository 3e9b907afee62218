// Package diskfile is what every storage strategy does with the files in a VM's
// directory. Whoever owns the directory, a VMM and so perhaps its guest, has
// written there: no link is followed, no FIFO waited for, and a file that is not
// the disk's owner's is not touched.
package diskfile

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

// Open opens a regular file with flags such as os.O_RDWR.
func Open(name string, flags int) (*os.File, error) {
	f, err := os.OpenFile(name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// OpenOwn is Open of a file that is the disk's owner's.
func OpenOwn(name string, flags int, d storage.Disk) (*os.File, error) {
	f, err := Open(name, flags)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if want := ownerUID(d); err == nil && st.Uid != want {
		err = fmt.Errorf("%s belongs to user %d, not %d", name, st.Uid, want)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func ownerUID(d storage.Disk) uint32 {
	if d.Owner != nil {
		return d.Owner.UID
	}
	return uint32(os.Geteuid())
}

// SyncDir makes a rename in dir durable.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Remove removes a file that may be gone.
func Remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Sweep removes the files in dir whose names begin with one of these: what
// Creates that were killed have left.
func Sweep(dir string, prefixes ...string) error {
	ents, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range ents {
		for _, p := range prefixes {
			if strings.HasPrefix(e.Name(), p) {
				err = errors.Join(err, Remove(filepath.Join(dir, e.Name())))
			}
		}
	}
	return err
}

// CheckNew reports why a disk cannot be made over base: its file is gone
// (NotFound), or larger than the disk (Invalid).
func CheckNew(base storage.Base, d storage.Disk) error {
	if err := Present(base); err != nil {
		return err
	}
	if d.Size < base.Size {
		return banger.Errorf(banger.Invalid, "a disk of %s is smaller than its image (%s)", banger.FormatSize(d.Size), banger.FormatSize(base.Size))
	}
	return nil
}

// checkGrow reports whether a disk of size bytes is to be grown; less than it
// has is Invalid.
func checkGrow(size, bytes int64) (grow bool, err error) {
	if bytes < size {
		return false, banger.Errorf(banger.Invalid, "a disk never shrinks: this one has %s, not %s", banger.FormatSize(size), banger.FormatSize(bytes)).
			WithRemedy("ask for %s or more", banger.FormatSize(size))
	}
	return bytes > size, nil
}

// Present reports a base that is gone.
func Present(base storage.Base) error {
	_, err := os.Stat(base.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return banger.Errorf(banger.NotFound, "the image's file %s is gone", base.Path).WithRemedy("banger bundle build, then create the VM anew")
	}
	if err != nil {
		return fmt.Errorf("look at the image's file: %w", err)
	}
	return nil
}

// Full turns err into what it comes from when the file system of dir has no room
// or is read-only, of which a tool tells in words only, or has no files so large.
func Full(dir string, err error) error {
	if code := banger.CodeOf(err); code != banger.Internal { // it says so itself
		return err
	}
	if errors.Is(err, unix.EFBIG) {
		return banger.Errorf(banger.Invalid, "the file system of %s has no files of that size: %w", dir, err).
			WithRemedy("ask for less, such as 100GiB: a disk can grow later")
	}
	const enough = 1 << 20
	var st unix.Statfs_t
	if e := unix.Statfs(dir, &st); e != nil {
		return err
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return banger.Errorf(banger.HostUnready, "%s is read-only: %w", dir, err).WithRemedy("make it writable: findmnt -T %s", dir)
	}
	if st.Bavail*uint64(st.Bsize) >= enough && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	return banger.Errorf(banger.HostUnready, "%s is full: %w", dir, err).WithRemedy("make room: df -h %s", dir)
}
