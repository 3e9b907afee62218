package bundle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"banger"
)

// A workspace is the directory beside the output in which a bundle is made.
// Its name is fixed, so that the next build finds what a killed one left; the
// lock on it is the builder's and ends with it.
type workspace struct {
	dir    string
	tree   string // the Debian tree
	kernel string // the kernel package, then what is in it
	tmp    string // mmdebstrap's TMPDIR
	bundle string // becomes the output
	lock   *os.File
}

// missing are dir and the directories above it that are not there, innermost
// first.
func missing(dir string) (dirs []string) {
	for dir != "/" {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		dirs = append(dirs, dir)
		dir = filepath.Dir(dir)
	}
	return dirs
}

// openWorkspace makes an empty workspace beside output.
func (b *Builder) openWorkspace(ctx context.Context, output string) (*workspace, error) {
	dir := filepath.Join(filepath.Dir(output), "."+filepath.Base(output)+".new")
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	w := &workspace{
		dir: dir, lock: lock,
		tree: filepath.Join(dir, "tree"), kernel: filepath.Join(dir, "kernel"),
		tmp: filepath.Join(dir, "tmp"), bundle: filepath.Join(dir, "bundle"),
	}
	if err := b.fill(ctx, w); err != nil {
		lock.Close()
		return nil, err
	}
	return w, nil
}

func (b *Builder) fill(ctx context.Context, w *workspace) error {
	old, err := os.ReadDir(w.dir)
	if err != nil {
		return fmt.Errorf("read build directory: %w", err)
	}
	for _, e := range old {
		if err := b.removeAll(ctx, filepath.Join(w.dir, e.Name())); err != nil {
			return fmt.Errorf("remove what an interrupted build left: %w", err)
		}
	}
	// Keeps the gigabyte out of `git status` when the output is in a checkout.
	if err := os.WriteFile(filepath.Join(w.dir, ".gitignore"), []byte("*\n"), 0o644); err != nil {
		return err
	}
	for _, d := range []string{w.kernel, w.tmp, w.bundle} {
		if err := mkdirOpen(d); err != nil {
			return fmt.Errorf("make build directory: %w", err)
		}
	}
	return nil
}

// lockDir makes dir if need be and locks it; Busy if another build holds it.
func lockDir(dir string) (*os.File, error) {
	for {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, banger.Errorf(banger.HostUnready, "make build directory: %w", err).
				WithRemedy("name a directory that you can write with --output")
		}
		f, err := os.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the build before this one has just ended
		}
		if err != nil {
			return nil, fmt.Errorf("open build directory: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if !errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("lock build directory: %w", err)
			}
			return nil, banger.Errorf(banger.Busy, "another build is under way in %s", dir).WithRemedy("wait until it has ended")
		}
		// What was locked may have been removed between open and lock.
		held, err1 := f.Stat()
		named, err2 := os.Lstat(dir)
		if err1 == nil && err2 == nil && os.SameFile(held, named) {
			return f, nil
		}
		f.Close()
	}
}

// closeWorkspace removes the workspace, with what is left in it, and ends the lock.
func (b *Builder) closeWorkspace(ctx context.Context, w *workspace) error {
	defer w.lock.Close()
	return b.removeAll(ctx, w.dir)
}

// publish renames the finished bundle to output, in one step also when
// something is there: readers see the old bundle or the new one.
func (w *workspace) publish(output string) error {
	if err := syncDir(w.bundle); err != nil {
		return err
	}
	err := unix.Renameat2(unix.AT_FDCWD, w.bundle, unix.AT_FDCWD, output, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		err = unix.Renameat2(unix.AT_FDCWD, w.bundle, unix.AT_FDCWD, output, unix.RENAME_EXCHANGE)
	}
	if err != nil {
		return fmt.Errorf("move bundle to %s: %w", output, err)
	}
	return syncDir(filepath.Dir(output))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
