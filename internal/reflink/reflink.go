// Package reflink copies files without copying their bytes where the file
// system can: it shares extents, else links, else copies what is not a hole.
// A copy appears under its name whole and synced, or not at all.
package reflink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A Method is how a copy was made.
type Method string

const (
	Reflink  Method = "reflink"   // shares extents, copy on write
	HardLink Method = "hard link" // is the same file
	Copy     Method = "copy"      // has bytes of its own, holes kept
)

// Prefix begins the names of copies that are not finished. One that a crash
// left is nobody's.
const Prefix = ".reflink-"

// Clone copies the regular file src to dst, with mode, by reflink, else by a
// sparse copy. A dst that is there is replaced.
func Clone(ctx context.Context, src, dst string, mode fs.FileMode) (Method, error) {
	return place(ctx, src, dst, mode, nil)
}

// Link is Clone that tries a hard link before it copies bytes, if mayLink
// agrees to what src is: a linked file keeps its owner and mode, and whoever
// can write one name of it changes the other.
func Link(ctx context.Context, src, dst string, mode fs.FileMode, mayLink func(fs.FileInfo) bool) (Method, error) {
	return place(ctx, src, dst, mode, mayLink)
}

func place(ctx context.Context, src, dst string, mode fs.FileMode, mayLink func(fs.FileInfo) bool) (how Method, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("copy %s to %s: %w", src, dst, err)
		}
	}()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	// A pipe in the place of a file must not block.
	in, err := os.OpenFile(src, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return "", err
	}
	if !st.Mode().IsRegular() {
		return "", errors.New("not a regular file")
	}
	dir := filepath.Dir(dst)
	out, err := os.CreateTemp(dir, Prefix)
	if err != nil {
		return "", err
	}
	temp := out.Name()
	defer os.Remove(temp) // a no-op once it is renamed
	defer out.Close()
	switch {
	case unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil:
		how = Reflink
	case mayLink != nil && mayLink(st) && link(in, temp) == nil:
		how = HardLink
	default:
		how = Copy
		if err := copySparse(ctx, out, in, st.Size()); err != nil {
			return "", err
		}
	}
	if how == HardLink {
		err = in.Sync()
	} else {
		err = errors.Join(out.Chmod(mode), out.Sync())
	}
	if err != nil {
		return "", err
	}
	if err := os.Rename(temp, dst); err != nil {
		return "", err
	}
	return how, syncDir(dir)
}

// link puts the open file in the place of temp: by its descriptor, so that it
// is the file that was looked at, whatever its name means by now. temp stays
// as it was when that fails.
func link(in *os.File, temp string) error {
	name := temp + "-link"
	if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", in.Fd()), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW); err != nil {
		return err
	}
	if err := os.Rename(name, temp); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
