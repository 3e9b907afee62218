package filetree

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// openTop opens the directory that the stream's top becomes, as the root of all
// that follows.
func (u *unpacker) openTop(t Target, top *tar.Header) error {
	st, err := os.Stat(t.Path)
	switch {
	case err == nil && !st.IsDir():
		return &fs.PathError{Op: "copy a directory to", Path: t.Path, Err: unix.ENOTDIR}
	case err == nil && t.Name == ".":
		u.root, err = os.OpenRoot(t.Path)
		return err
	case errors.Is(err, fs.ErrNotExist):
		t.Path = strings.TrimRight(t.Path, "/")
		t.Path, t.Name = filepath.Dir(t.Path), filepath.Base(t.Path)
	case err != nil:
		return err
	}
	parent, err := os.OpenRoot(t.Path)
	if err != nil {
		return err
	}
	defer parent.Close()
	err = parent.Mkdir(t.Name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		u.root, err = parent.OpenRoot(t.Name)
		return err
	}
	if err == nil {
		u.root, err = parent.OpenRoot(t.Name)
	}
	if err == nil {
		u.made = append(u.made, pending{".", top})
	}
	return err
}

// single unpacks a stream of one file.
func (u *unpacker) single(t Target, h *tar.Header) (err error) {
	dir, base := t.Path, t.Name
	st, err := os.Stat(t.Path)
	switch {
	case err == nil && st.IsDir():
	case err == nil: // through links: it is what they lead to that is replaced
		if t.Path, err = filepath.EvalSymlinks(t.Path); err != nil {
			return err
		}
		dir, base = filepath.Dir(t.Path), filepath.Base(t.Path)
	case errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(t.Path, "/"):
		return &fs.PathError{Op: "copy to", Path: t.Path, Err: errors.New("no such directory")}
	case errors.Is(err, fs.ErrNotExist):
		dir, base = filepath.Dir(t.Path), filepath.Base(t.Path)
	default:
		return err
	}
	if !plainName(base) {
		return fmt.Errorf("%q is no name for a file", base)
	}
	if u.root, err = os.OpenRoot(dir); err != nil {
		return err
	}
	if err := u.enter("."); err != nil {
		return err
	}
	if err := u.file(base, h); err != nil {
		return err
	}
	if _, err := u.tr.Next(); err != io.EOF {
		return errors.Join(errors.New("the stream goes on after its only file"), err)
	}
	return nil
}

func plainName(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.ContainsAny(s, "/\x00")
}
