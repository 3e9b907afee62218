package vm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"banger"
	"banger/internal/steps"
	"banger/internal/storage"
)

// exist is what a VM has from its creation to its deletion. Its record comes
// before the list and goes after it: it is the intent, and holds the lease.
func exist() []steps.Step[*subject] {
	return []steps.Step[*subject]{
		{Name: "directory", Ensure: ensureDir, Release: releaseDir},
		rootDisk(),
		workDiskStep(),
	}
}

func rootDisk() steps.Step[*subject] {
	return steps.Step[*subject]{Name: "root disk", Ensure: ensureDisk, Release: releaseDisk}
}

func ensureDir(_ context.Context, s *subject) error {
	return privateDir(s.m.c.Paths.VMDir(s.rec.ID), s.owner())
}

// releaseDir removes what no other step made, the logs: all that made more
// have been released before it. os.RemoveAll follows no symbolic link.
func releaseDir(_ context.Context, s *subject) error {
	return errors.Join(
		os.RemoveAll(s.m.c.Paths.VMDir(s.rec.ID)),
		os.RemoveAll(s.m.c.Paths.RunVMDir(s.rec.ID)),
	)
}

// privateDir makes a directory that only its owner enters.
func privateDir(path string, o *banger.Owner) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return fmt.Errorf("%s is not a directory", path)
	}
	if o != nil {
		if err := os.Lchown(path, int(o.UID), int(o.GID)); err != nil {
			return err
		}
	}
	return os.Chmod(path, 0o700)
}

func ensureDisk(ctx context.Context, s *subject) error {
	st, err := s.strategy(ctx)
	if err != nil {
		return err
	}
	f, err := s.m.c.Images.Files(ctx, s.img)
	if err != nil {
		return err
	}
	return st.Create(ctx, s.base(f), s.storageDisk())
}

// releaseDisk needs no working backend: every strategy removes its own.
func releaseDisk(ctx context.Context, s *subject) error {
	var errs []error
	for _, st := range s.m.c.Disks {
		errs = append(errs, st.Remove(ctx, s.storageDisk()))
	}
	return errors.Join(errs...)
}

func (s *subject) base(f Files) storage.Base {
	return storage.Base{Path: f.Rootfs, Size: s.img.Rootfs.Size}
}
