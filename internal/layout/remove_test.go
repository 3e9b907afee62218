package layout_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
)

// What banger made goes, what others put beside it stays, and so does what a link
// leads to; a daemon that runs keeps all.
func TestRemove(t *testing.T) {
	l := fresh(t)
	if others, err := l.Remove(); err != nil || len(others) > 0 {
		t.Fatalf("nothing there: %v, %v", others, err)
	}
	if err := l.Prepare(); err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	mine := filepath.Join(l.State, "notes.txt")
	for _, path := range []string{l.DB(), l.DB() + "-wal", l.Lock(), l.Key(), l.DaemonLog(), mine, filepath.Join(elsewhere, "kept"), filepath.Join(l.Blobs(), strings.Repeat("b", 64)), filepath.Join(l.Blobs(), ".new-1"), filepath.Join(l.Failed(), "a-00000001-vmm.log"), l.Booted()} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	vm := filepath.Join(l.VMs(), "00000001")
	if err := errors.Join(os.Mkdir(vm, 0o700), os.Symlink(elsewhere, filepath.Join(vm, "link"))); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(l.Lock())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Remove(); banger.CodeOf(err) != banger.Busy {
		t.Errorf("under a daemon: %v", err)
	}
	if _, err := os.Stat(l.DB()); err != nil {
		t.Errorf("under a daemon: %v", err)
	}
	f.Close()
	others, err := l.Remove()
	if err != nil || !slices.Equal(others, []string{mine}) {
		t.Errorf("%v, %v", others, err)
	}
	if _, err := os.Stat(l.Run); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the run directory: %v", err)
	}
	if left, err := os.ReadDir(l.State); err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(elsewhere, "kept")); err != nil {
		t.Error(err)
	}
	if err := os.Remove(mine); err != nil {
		t.Fatal(err)
	}
	if others, err := l.Remove(); err != nil || len(others) > 0 {
		t.Errorf("the rest: %v, %v", others, err)
	}
	if _, err := os.Stat(l.State); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state directory: %v", err)
	}
}

// A state directory that never was one, and one that is shared with what others keep
// under the names of banger's directories: what banger did not make stays.
func TestRemoveOthers(t *testing.T) {
	l := fresh(t)
	if err := l.Prepare(); err != nil {
		t.Fatal(err)
	}
	theirs := []string{l.Key(), filepath.Join(l.VMs(), "debian.img"), filepath.Join(l.RunVMs(), "list"), filepath.Join(l.Blobs(), "holiday.jpg"), filepath.Join(l.Failed(), "exam.pdf")}
	write := func(paths ...string) {
		t.Helper()
		for _, path := range paths {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	stay := func(paths []string) {
		t.Helper()
		for _, path := range paths {
			if _, err := os.Lstat(path); err != nil {
				t.Error(err)
			}
		}
	}
	write(theirs...)
	if l.Made() {
		t.Error("an installation, without a database or a lock")
	}
	if _, err := l.Remove(); err != nil {
		t.Error(err)
	}
	stay(theirs)
	write(l.DB(), filepath.Join(l.VMs(), "00000001"))
	if _, err := l.Remove(); err != nil || l.Made() {
		t.Errorf("made %t, %v", l.Made(), err)
	}
	if _, err := os.Lstat(filepath.Join(l.VMs(), "00000001")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a VM's: %v", err)
	}
	stay(theirs[1:]) // the first has become the installation's
	linked := t.TempDir()
	write(l.DB(), filepath.Join(linked, "00000001"))
	if err := errors.Join(os.RemoveAll(l.VMs()), os.Symlink(linked, l.VMs())); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Remove(); err != nil {
		t.Error(err)
	}
	stay([]string{filepath.Join(linked, "00000001"), l.VMs()})
}
