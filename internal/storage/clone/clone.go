// Package clone is the storage strategy of whole files: a VM's root disk is a
// raw copy of the base image, which shares what it has not written where the file
// system can, and is sparse elsewhere. It needs no tool and no root, and every
// backend boots it.
package clone

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/reflink"
	"banger/internal/storage"
	"banger/internal/storage/diskfile"
)

const (
	fileName = "disk.raw"
	// tempPrefix begins the file's name until it has its size and owner.
	tempPrefix = "disk.raw.tmp-"
)

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

// Create copies aside and renames.
func (s *Strategy) Create(ctx context.Context, base storage.Base, d storage.Disk) error {
	switch _, err := size(d); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return diskfile.Broken(d, path(d), err)
	}
	if err := diskfile.CheckNew(base, d); err != nil {
		return err
	}
	if err := sweep(d.Dir); err != nil {
		return fmt.Errorf("create root disk: %w", err)
	}
	temp := filepath.Join(d.Dir, tempPrefix+rand.Text())
	_, err := reflink.Clone(ctx, base.Path, temp, 0o600)
	if err == nil {
		err = settle(temp, d)
	}
	if err == nil {
		err = os.Rename(temp, path(d))
	}
	if err == nil {
		err = diskfile.SyncDir(d.Dir)
	}
	if err != nil {
		return errors.Join(diskfile.Full(d.Dir, fmt.Errorf("create root disk: %w", err)), diskfile.Remove(temp))
	}
	return nil
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
	if _, err := size(d); err != nil {
		return "", diskfile.Broken(d, path(d), err)
	}
	return path(d), nil
}

// Detach has nothing to do.
func (s *Strategy) Detach(context.Context, storage.Disk) error { return nil }

// Size implements storage.Sizer.
func (s *Strategy) Size(d storage.Disk) (int64, error) {
	n, err := size(d)
	if err != nil {
		return 0, diskfile.Broken(d, path(d), err)
	}
	return n, nil
}

func size(d storage.Disk) (int64, error) {
	f, err := diskfile.OpenOwn(path(d), os.O_RDONLY, d)
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
	n, err := size(d)
	if err != nil {
		return diskfile.Broken(d, path(d), err)
	}
	if grow, err := diskfile.CheckGrow(n, bytes); err != nil || !grow {
		return err
	}
	f, err := diskfile.OpenOwn(path(d), os.O_RDWR, d)
	if err != nil {
		return diskfile.Broken(d, path(d), err)
	}
	if err := errors.Join(f.Truncate(bytes), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("grow root disk: %w", diskfile.Full(d.Dir, err))
	}
	return nil
}

// Remove deletes the file, and what a killed Create left of one.
func (s *Strategy) Remove(_ context.Context, d storage.Disk) error {
	if err := errors.Join(diskfile.Remove(path(d)), sweep(d.Dir)); err != nil {
		return fmt.Errorf("remove root disk: %w", err)
	}
	return nil
}

func path(d storage.Disk) string { return filepath.Join(d.Dir, fileName) }

func sweep(dir string) error { return diskfile.Sweep(dir, tempPrefix, reflink.Prefix) }
