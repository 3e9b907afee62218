package filetree

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A Target says where a stream goes.
type Target struct {
	// Path is the place. A directory there receives the stream's top under
	// Name, or with Name "." what lies below the top. Where there is nothing
	// the top becomes Path, whose parent must exist.
	Path, Name string
	// Archive takes the stream for somebody's own archive: all of it goes
	// below Path, an existing directory, under the names that it says.
	Archive bool
}

// Unpack reads a stream to its end. What it makes lies below t, whatever the
// stream says: names that lead out of it, also by links that were there or that
// the stream has made, are errors. Files that exist are replaced, directories
// that exist keep their modes, owners and times.
func Unpack(r io.Reader, t Target, o Options) error {
	u := &unpacker{Options: o, tr: tar.NewReader(r), buf: make([]byte, bufferSize), umask: umask()}
	defer u.close()
	err := u.unpack(t)
	if err == nil {
		_, err = io.Copy(io.Discard, r) // padding: its writer must not be cut off
	}
	return err
}

type unpacker struct {
	Options
	tr    *tar.Reader
	buf   []byte
	umask int64
	root  *os.Root // nothing is made outside of it
	here  directory
	made  []pending // directories under way, each below the one before
}

// A directory is the one that the last file went to.
type directory struct {
	path string // relative to the root
	root *os.Root
	fd   *os.File
}

// A pending directory gets its mode and times when it is left: the one may
// forbid what is to be written, the other is changed by it.
type pending struct {
	path string
	h    *tar.Header
}

func (u *unpacker) close() {
	u.leaveHere()
	if u.root != nil {
		u.root.Close()
	}
}

func (u *unpacker) unpack(t Target) (err error) {
	if t.Archive {
		if u.root, err = os.OpenRoot(t.Path); err != nil {
			return err
		}
		return u.entries()
	}
	top, err := u.tr.Next()
	if err != nil {
		return fmt.Errorf("read the stream's beginning: %w", unexpected(err))
	}
	switch top.Typeflag {
	case tar.TypeDir:
		if err := u.openTop(t, top); err != nil {
			return err
		}
		return u.entries()
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.single(t, top)
	}
	return fmt.Errorf("the stream begins with neither a file nor a directory (type %q)", top.Typeflag)
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// entries unpacks what follows below the root.
func (u *unpacker) entries() error {
	for {
		h, err := u.tr.Next()
		if err == io.EOF {
			return u.leave("")
		}
		if err != nil {
			return fmt.Errorf("read the stream: %w", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		name := path.Clean(h.Name)
		if !filepath.IsLocal(name) {
			return fmt.Errorf("%q leads out of the place that it is copied to", h.Name)
		}
		if err := u.leave(name); err != nil {
			return err
		}
		if err := u.one(name, h); err != nil {
			return fmt.Errorf("%s: %w", name, reason(err))
		}
	}
}

// one makes what h describes.
func (u *unpacker) one(name string, h *tar.Header) error {
	if h.Typeflag == tar.TypeDir {
		return u.dir(name, h)
	}
	if name == "." {
		return errors.New("the top of a tree is a directory")
	}
	dir, base := path.Split(name)
	if err := u.enter(path.Clean(dir)); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return u.file(base, h)
	case tar.TypeSymlink:
		return u.symlink(base, h)
	case tar.TypeLink:
		return u.link(base, h)
	case tar.TypeFifo:
		u.problem(name, leftOut("a FIFO"))
	case tar.TypeChar, tar.TypeBlock:
		u.problem(name, leftOut("a device"))
	default:
		u.problem(name, leftOut(fmt.Sprintf("of the unknown type %q", h.Typeflag)))
	}
	return nil
}

func (u *unpacker) dir(name string, h *tar.Header) error {
	if name == "." { // it was there
		return nil
	}
	err := u.root.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrNotExist) { // an archive need not have all
		if err = u.root.MkdirAll(path.Dir(name), 0o755); err == nil {
			err = u.root.Mkdir(name, 0o700)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		st, err := u.root.Stat(name)
		if err == nil && !st.IsDir() {
			err = unix.ENOTDIR
		}
		return err
	}
	if err == nil {
		u.made = append(u.made, pending{name, h})
	}
	return err
}

// enter makes the directory dir the one that files go to.
func (u *unpacker) enter(dir string) error {
	if u.here.root != nil && u.here.path == dir {
		return nil
	}
	u.leaveHere()
	root, err := u.root.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err = u.root.MkdirAll(dir, 0o755); err == nil {
			root, err = u.root.OpenRoot(dir)
		}
	}
	if err != nil {
		return err
	}
	fd, err := root.Open(".")
	if err != nil {
		root.Close()
		return err
	}
	u.here = directory{dir, root, fd}
	return nil
}

func (u *unpacker) leaveHere() {
	if u.here.root != nil {
		u.here.fd.Close()
		u.here.root.Close()
		u.here = directory{}
	}
}

// leave finishes the directories that name does not lie in; "" lies in none.
func (u *unpacker) leave(name string) error {
	for n := len(u.made) - 1; n >= 0; n-- {
		d := u.made[n]
		if name != "" && (d.path == "." || strings.HasPrefix(name, d.path+"/")) {
			return nil
		}
		if u.here.path == d.path {
			u.leaveHere()
		}
		if err := u.finish(d); err != nil {
			return fmt.Errorf("%s: %w", d.path, reason(err))
		}
		u.made = u.made[:n]
	}
	return nil
}

func (u *unpacker) finish(d pending) error {
	f, err := u.root.Open(d.path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := u.attributes(f, d.h); err != nil {
		return err
	}
	return setTime(f, ".", d.h)
}
