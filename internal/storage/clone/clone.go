// Package clone is the storage strategy of whole files: a VM's root disk is a
// raw copy of the base image, which shares what it has not written where the file
// system can, and is sparse elsewhere. It needs no tool and no root, and every
// backend boots it.
package clone

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/reflink"
	"banger/internal/storage"
	"banger/internal/storage/diskfile"
)

var file = diskfile.File{What: "root disk", Name: "disk.raw", More: []string{reflink.Prefix}}

// A Strategy copies. Make one with Reflink or Copy: the two differ in where
// they offer themselves, and not in their disks.
type Strategy struct {
	name  string
	probe func(dir string) error
}

var (
	_ storage.Strategy = (*Strategy)(nil)
	_ storage.Sizer    = (*Strategy)(nil)
)

// Reflink offers itself where the file system shares extents.
func Reflink() *Strategy { return &Strategy{"reflink", canShare} }

// Copy offers itself everywhere. A new disk takes the room of its image, and the
// time to write it.
func Copy() *Strategy { return &Strategy{"copy", func(string) error { return nil }} }

// Name is "reflink" or "copy".
func (s *Strategy) Name() string { return s.name }

// Format is raw.
func (s *Strategy) Format() banger.DiskFormat { return banger.FormatRaw }

// Probe tries it, with files that have no name.
func (s *Strategy) Probe(_ context.Context, dir string) error { return s.probe(dir) }

func canShare(dir string) (err error) {
	defer func() {
		if err != nil {
			err = banger.Errorf(banger.HostUnready, "the file system of %s cannot share extents: %w", dir, err).
				WithRemedy("keep banger's state on btrfs, or on XFS made with reflink=1: BANGER_STATE_DIR=DIR")
		}
	}()
	var files [2]*os.File
	for i := range files {
		f, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		files[i] = f
	}
	if _, err := files[0].Write(make([]byte, 4096)); err != nil {
		return err
	}
	return unix.IoctlFileClone(int(files[1].Fd()), int(files[0].Fd()))
}

// Create copies.
func (s *Strategy) Create(ctx context.Context, base storage.Base, d storage.Disk) error {
	_, there := size(d)
	return file.Create(d, there, func(temp string) error {
		if err := diskfile.CheckNew(base, d); err != nil {
			return err
		}
		if _, err := reflink.Clone(ctx, base.Path, temp, 0o600); err != nil {
			return err
		}
		return settle(temp, d)
	})
}

// settle makes a new file the owner's, and as large as the disk.
func settle(name string, d storage.Disk) error {
	f, err := diskfile.Open(name, os.O_RDWR)
	if err != nil {
		return err
	}
	if d.Owner != nil {
		err = f.Chown(int(d.Owner.UID), int(d.Owner.GID))
	}
	if err == nil {
		err = f.Truncate(d.Size)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// Attach has nothing to attach: the VMM opens the file, and no base.
func (s *Strategy) Attach(_ context.Context, _ storage.Base, d storage.Disk) (string, error) {
	_, err := s.Size(d)
	return file.Path(d), err
}

// Detach has nothing to do.
func (s *Strategy) Detach(context.Context, storage.Disk) error { return nil }

// Size implements storage.Sizer.
func (s *Strategy) Size(d storage.Disk) (int64, error) {
	n, err := size(d)
	if err != nil {
		return 0, file.Broken(d, err)
	}
	return n, nil
}

func size(d storage.Disk) (int64, error) {
	f, err := diskfile.OpenOwn(file.Path(d), os.O_RDONLY, d)
	if err != nil {
		return 0, err
	}
	fi, err := f.Stat()
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// Grow lengthens the file by a hole; the guest program grows the file system.
func (s *Strategy) Grow(_ context.Context, _ storage.Base, d storage.Disk, bytes int64) error {
	n, err := s.Size(d)
	if err != nil {
		return err
	}
	return file.Grow(d, n, bytes, func() error {
		f, err := diskfile.OpenOwn(file.Path(d), os.O_RDWR, d)
		if err != nil {
			return err
		}
		return errors.Join(f.Truncate(bytes), f.Sync(), f.Close())
	})
}

// Remove deletes the file.
func (s *Strategy) Remove(_ context.Context, d storage.Disk) error { return file.Remove(d) }
