// Package seed makes a blank file system a home directory: what the image has
// there is put on it, once. It is given directories and mounts nothing.
//
// A machine may lose its power at any instant. Nothing is seen at the file
// system's top before all of it lies in a directory aside, on the disk; from
// there it is renamed, entry by entry; the marker comes last. Whoever finds no
// marker goes on where the one before stopped, or begins anew.
package seed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Names at the file system's top while it is filled.
const (
	copying = ".banger-seed.new" // part of a copy; thrown away by whoever finds it
	whole   = ".banger-seed"     // a tree that is complete and on its way to the top
	nested  = "root"             // a home directory that was put into the file system as a whole
)

// marker is the attribute of a file system's top that says that it was filled. A
// file could be deleted with everything else, and all would come back; this name
// only root of the machine can write.
const marker = ownAttributes + "seeded"

// ownAttributes are never copied.
const ownAttributes = "trusted.banger."

// Fill makes dir, the top of a file system, the home directory that home is: a
// copy of it with owners, modes, times, attributes, links and holes. Where dir has
// something but no marker, somebody else has filled it, and nothing is copied: a
// home directory that lies nested in it, dir/root, is flattened into it. Of two
// entries of one name the nested one then wins, and the other is kept as
// NAME.outer; directories are merged. With the marker nothing is done. A home that
// is not there is an empty one.
func Fill(dir, home string) error { return filler{func(string) {}}.fill(dir, home) }

// A filler calls at before each change that a power cut may come before.
type filler struct{ at func(change string) }

func (f filler) fill(dir, home string) error {
	done, err := isMarked(dir)
	if err != nil {
		return fmt.Errorf("look for the marker: %w", err)
	}
	if done { // perhaps a moment before this went
		return removeEmpty(filepath.Join(dir, whole))
	}
	if err := os.RemoveAll(filepath.Join(dir, copying)); err != nil {
		return fmt.Errorf("remove what an earlier attempt left: %w", err)
	}
	if err := f.complete(dir, home); err != nil {
		return err
	}
	return f.raise(dir)
}

// complete sees to it that all that is to come to the top lies in whole, unless
// it has come there already.
func (f filler) complete(dir, home string) error {
	if there, err := isDir(filepath.Join(dir, whole)); there || err != nil {
		return err
	}
	blank, err := isBlank(dir)
	if err != nil {
		return err
	}
	if !blank {
		there, err := isDir(filepath.Join(dir, nested))
		if !there || err != nil {
			return err
		}
		return f.rename(filepath.Join(dir, nested), filepath.Join(dir, whole))
	}
	to := filepath.Join(dir, copying)
	c := copier{filler: f, links: map[inode]string{}}
	if err := c.home(home, to); err != nil {
		return fmt.Errorf("copy %s: %w", home, err)
	}
	f.at("sync")
	if err := syncAll(dir); err != nil { // a name alone could reach the disk before what it names
		return fmt.Errorf("copy %s: %w", home, err)
	}
	return f.rename(to, filepath.Join(dir, whole))
}

// raise brings what is in whole to the top. Renames of one file system reach the
// disk in their order, so that nothing need be written out in between.
func (f filler) raise(dir string) error {
	from := filepath.Join(dir, whole)
	there, err := isDir(from)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if there {
		if err := unix.Lstat(from, &st); err != nil {
			return err
		}
		if err := f.merge(from, dir); err != nil {
			return err
		}
		if err := attributes(from, dir, &st); err != nil {
			return err
		}
	}
	if err := removeEmpty(filepath.Join(dir, "lost+found")); err != nil { // e2fsck makes one when it needs it
		return err
	}
	f.at("mark")
	if err := unix.Setxattr(dir, marker, []byte("1"), 0); err != nil {
		return fmt.Errorf("mark: %w", err)
	}
	if !there {
		return nil
	}
	f.at("remove " + whole)
	if err := removeEmpty(from); err != nil {
		return err
	}
	return setTimes(dir, &st)
}

// merge moves all that from has into to, both directories.
func (f filler) merge(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := f.move(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// move makes from what to is, an entry of another directory. It is renamed, not
// copied: at each instant it is in one of the two places, whole.
func (f filler) move(from, to string) error {
	if filepath.Base(to) == whole { // it would take the place of the directory it is in
		to += outer
	}
	var there, here unix.Stat_t
	switch err := unix.Lstat(to, &there); {
	case errors.Is(err, fs.ErrNotExist):
		return f.rename(from, to)
	case err != nil:
		return &fs.PathError{Op: "look at", Path: to, Err: err}
	}
	if err := unix.Lstat(from, &here); err != nil {
		return &fs.PathError{Op: "look at", Path: from, Err: err}
	}
	if kind(&there) != unix.S_IFDIR || kind(&here) != unix.S_IFDIR {
		aside, err := free(to + outer)
		if err == nil {
			err = f.rename(to, aside)
		}
		if err == nil {
			err = f.rename(from, to)
		}
		return err
	}
	if err := f.merge(from, to); err != nil {
		return err
	}
	if err := attributes(from, to, &here); err != nil {
		return err
	}
	f.at("remove " + from)
	if err := os.Remove(from); err != nil {
		return err
	}
	return setTimes(to, &here)
}

// outer is added to the name of what gave way to a nested entry.
const outer = ".outer"

// free is name, or name with a number: one that nothing has.
func free(name string) (string, error) {
	for n, try := 2, name; ; n++ {
		if _, err := os.Lstat(try); errors.Is(err, fs.ErrNotExist) {
			return try, nil
		} else if err != nil {
			return "", err
		}
		try = fmt.Sprintf("%s.%d", name, n)
	}
}

func (f filler) rename(from, to string) error {
	f.at("rename " + from)
	return os.Rename(from, to)
}

func isMarked(dir string) (bool, error) {
	_, err := unix.Getxattr(dir, marker, nil)
	if errors.Is(err, unix.ENODATA) {
		return false, nil
	}
	return err == nil, err
}

// isBlank reports whether dir has nothing but what a new file system has.
func isBlank(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != "lost+found" {
			return false, err
		}
	}
	return err == nil, err
}

// isDir reports whether path is a directory, and no link to one.
func isDir(path string) (bool, error) {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && st.IsDir(), err
}

// removeEmpty removes a directory if it is there and there is nothing in it.
func removeEmpty(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return &fs.PathError{Op: "remove", Path: dir, Err: err}
}

// syncAll writes out the file system that dir is on.
func syncAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}
