package diskfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"banger"
	"banger/internal/storage"
)

// A File is how each disk of a kind is kept in one file of its VM's directory.
type File struct {
	What string   // the disk is, for errors
	Name string   // of the file
	More []string // how other names begin that a Create which was killed may leave
}

// Path is the disk's file.
func (f File) Path(d storage.Disk) string { return filepath.Join(d.Dir, f.Name) }

// aside begins the file's name while it is made. The rest is random: a tool whose
// daemon was killed runs on for some milliseconds, and would otherwise write into the
// next one's file.
func (f File) aside() string { return f.Name + ".tmp-" }

func (f File) sweep(d storage.Disk) error {
	return Sweep(d.Dir, slices.Concat(f.More, []string{f.aside()})...)
}

// Create makes the file by way of fill, aside, and gives it its name once it is whole.
// there is what a look at the file said: one that is there is success, one that cannot
// be read is an error.
func (f File) Create(d storage.Disk, there error, fill func(temp string) error) error {
	switch {
	case there == nil:
		return nil
	case !errors.Is(there, fs.ErrNotExist):
		return f.Broken(d, there)
	}
	if err := f.sweep(d); err != nil {
		return fmt.Errorf("create %s: %w", f.What, err)
	}
	temp := filepath.Join(d.Dir, f.aside()+rand.Text())
	err := fill(temp)
	if err == nil {
		err = os.Rename(temp, f.Path(d))
	}
	if err == nil {
		err = SyncDir(d.Dir)
	}
	if err != nil {
		return errors.Join(Full(d.Dir, fmt.Errorf("create %s: %w", f.What, err)), Remove(temp))
	}
	return nil
}

// Grow has grow make a disk larger that has so many bytes now; less than it has is
// Invalid.
func (f File) Grow(d storage.Disk, has, bytes int64, grow func() error) error {
	if more, err := checkGrow(has, bytes); err != nil || !more {
		return err
	}
	if err := grow(); err != nil {
		return fmt.Errorf("grow %s: %w", f.What, Full(d.Dir, err))
	}
	return nil
}

// Remove deletes the file, and what a Create that was killed left of one.
func (f File) Remove(d storage.Disk) error {
	if err := errors.Join(Remove(f.Path(d)), f.sweep(d)); err != nil {
		return fmt.Errorf("remove %s: %w", f.What, err)
	}
	return nil
}

// Broken says what is wrong with a disk that should be there.
func (f File) Broken(d storage.Disk, err error) error {
	code, what := banger.Internal, "cannot be read"
	if errors.Is(err, fs.ErrNotExist) {
		code, what = banger.NotFound, "is gone"
	}
	return banger.Errorf(code, "the %s of VM %s %s: %w", f.What, d.VM, what, err).
		WithRemedy("put %s back, or delete the VM: banger rm %s", f.Path(d), d.VM)
}
