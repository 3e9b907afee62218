package seed

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A copier copies a tree to another file system. Nothing else runs: no path
// changes under it.
type copier struct {
	filler
	links map[inode]string // what has several names, by its first here
}

// An inode is a file whatever its names.
type inode struct{ dev, ino uint64 }

func kind(st *unix.Stat_t) uint32 { return st.Mode & unix.S_IFMT }

// home copies a home directory, which need not be there.
func (c *copier) home(from, to string) error {
	var st unix.Stat_t
	err := unix.Stat(from, &st)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.at("make " + to)
		return os.Mkdir(to, 0o700)
	case err != nil:
		return err
	case kind(&st) != unix.S_IFDIR:
		return unix.ENOTDIR
	}
	return c.directory(from, to, &st)
}

func (c *copier) directory(from, to string, st *unix.Stat_t) error {
	c.at("make " + to)
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		a, b := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		if err := c.entry(a, b, st.Dev); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
	}
	if err := attributes(from, to, st); err != nil {
		return err
	}
	return setTimes(to, st)
}

// entry copies what is in a directory of the file system dev; of what is mounted
// there, the mount point.
func (c *copier) entry(from, to string, dev uint64) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return err
	}
	if kind(&st) == unix.S_IFDIR {
		if st.Dev != dev {
			c.at("make " + to)
			return os.Mkdir(to, 0o700)
		}
		return c.directory(from, to, &st)
	}
	id := inode{st.Dev, st.Ino}
	if first := c.links[id]; first != "" {
		c.at("link " + to)
		return unix.Link(first, to)
	}
	if st.Nlink > 1 {
		c.links[id] = to
	}
	c.at("make " + to)
	if err := leaf(from, to, &st); err != nil {
		return err
	}
	if err := attributes(from, to, &st); err != nil {
		return err
	}
	return setTimes(to, &st)
}

// leaf makes what is no directory, with its content alone.
func leaf(from, to string, st *unix.Stat_t) error {
	switch kind(st) {
	case unix.S_IFREG:
		return file(from, to, st.Size)
	case unix.S_IFLNK:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return unix.Symlink(target, to)
	}
	return unix.Mknod(to, kind(st)|0o600, int(st.Rdev))
}

// file copies what a file has of data, and leaves its holes.
func file(from, to string, size int64) (err error) {
	src, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	for at := int64(0); at < size; {
		begin, err := src.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // nothing but a hole follows
			break
		}
		if err != nil {
			return err
		}
		end, err := src.Seek(begin, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := src.Seek(begin, io.SeekStart); err != nil {
			return err
		}
		if _, err := dst.Seek(begin, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(dst, src, end-begin); err != nil {
			return err
		}
		at = end
	}
	return dst.Truncate(size)
}

// attributes gives to the owner, the extended attributes and the mode of from: in
// this order, since a change of owner takes set-uid bits and capabilities away.
func attributes(from, to string, st *unix.Stat_t) error {
	if err := unix.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	if err := extended(from, to); err != nil {
		return err
	}
	if kind(st) == unix.S_IFLNK {
		return nil
	}
	if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	return nil
}

// extended copies extended attributes, access control lists among them.
func extended(from, to string) error {
	n, err := unix.Llistxattr(from, nil)
	if n == 0 && err == nil || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	names := make([]byte, n)
	if err == nil {
		n, err = unix.Llistxattr(from, names)
	}
	if err != nil {
		return fmt.Errorf("list attributes: %w", err)
	}
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for name := range strings.SplitSeq(string(names[:n]), "\x00") {
		if name == "" || strings.HasPrefix(name, ownAttributes) {
			continue
		}
		n, err := unix.Lgetxattr(from, name, value)
		if err == nil {
			err = unix.Lsetxattr(to, name, value[:n], 0)
		}
		if err != nil {
			return fmt.Errorf("copy attribute %s: %w", name, err)
		}
	}
	return nil
}

func setTimes(to string, st *unix.Stat_t) error {
	times := []unix.Timespec{st.Atim, st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, to, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}
