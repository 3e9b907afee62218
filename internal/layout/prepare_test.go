package layout_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/layout"
)

// fresh is a layout of this user in a directory of its own, which anybody may
// enter, as /var/lib and /run are.
func fresh(t *testing.T) layout.Layout {
	t.Helper()
	dir, err := os.MkdirTemp("", "layout")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := layout.Resolve(env("BANGER_STATE_DIR", filepath.Join(dir, "a", "state"), "BANGER_RUN_DIR", filepath.Join(dir, "run"), "HOME", dir), os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Mode().Perm()
}

// What is made is private; below a root daemon other users pass through and
// list nothing. Doing it twice changes nothing; looser modes are tightened.
func TestPrepare(t *testing.T) {
	l := fresh(t)
	passage := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		passage = 0o711
	}
	defer unix.Umask(unix.Umask(0o077)) // one that would close root's
	for range 2 {
		if err := l.Prepare(); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]fs.FileMode{
			l.State: passage, l.Blobs(): passage, l.VMs(): passage, l.Failed(): 0o700, l.Run: passage, l.RunVMs(): passage,
		} {
			if m := mode(t, path); m != want {
				t.Errorf("%s: mode %04o, want %04o", path, m, want)
			}
			if err := os.Chmod(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A socket of the user's own choice has a directory too.
func TestPrepareSocket(t *testing.T) {
	l := fresh(t)
	dir := filepath.Join(filepath.Dir(l.Run), "sockets")
	l, err := layout.Resolve(env("BANGER_STATE_DIR", l.State, "BANGER_RUN_DIR", l.Run, "BANGER_SOCKET", dir+"/s", "HOME", "/h"), os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Prepare(); err != nil {
		t.Fatal(err)
	}
	if m := mode(t, dir); m != 0o700 {
		t.Errorf("mode %04o", m)
	}
}

func TestPrepareRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, l layout.Layout) error
		word string
		root bool
		in   string // what the state directory's parent is, if not the usual
	}{
		"link": {make: func(t *testing.T, l layout.Layout) error {
			return errors.Join(os.Mkdir(l.Run+".real", 0o700), os.Symlink(l.Run+".real", l.Run))
		}, word: "symbolic link"},
		"file":           {make: func(t *testing.T, l layout.Layout) error { return os.WriteFile(l.Run, nil, 0o600) }, word: "not a directory"},
		"group-writable": {make: func(t *testing.T, l layout.Layout) error { return mkdirMode(l.Run, 0o770) }, word: "chmod go-w"},
		"world-writable": {make: func(t *testing.T, l layout.Layout) error { return mkdirMode(l.Run, 0o1777) }, word: "chmod go-w"},
		"read-only mode": {make: func(t *testing.T, l layout.Layout) error { return mkdirMode(l.Run, 0o555) }, word: "chmod u+rwx"},
		"no such place": {make: func(t *testing.T, l layout.Layout) error {
			return os.Symlink("/proc", filepath.Dir(l.Run)+"/p")
		}, word: "that you can write", in: "p"},
		"another's": {root: true, make: func(t *testing.T, l layout.Layout) error {
			return errors.Join(os.Mkdir(l.Run, 0o700), os.Chown(l.Run, 4242, 4242))
		}, word: "belongs to user 4242"},
		"closed on the way": {root: true, make: func(t *testing.T, l layout.Layout) error { return os.Chmod(filepath.Dir(l.Run), 0o700) }, word: "chmod o+x "},
		"read-only": {root: true, make: func(t *testing.T, l layout.Layout) error {
			tmpfs(t, l.Run, "size=64k", unix.MS_RDONLY)
			return nil
		}, word: "that you can write"},
		"full": {root: true, make: func(t *testing.T, l layout.Layout) error { tmpfs(t, l.Run, "nr_inodes=1", 0); return nil }, word: "df -h"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			l := fresh(t)
			if err := c.make(t, l); err != nil {
				t.Fatal(err)
			}
			if c.in != "" {
				l.State = filepath.Join(filepath.Dir(l.Run), c.in, "s")
			}
			err := l.Prepare()
			if e := banger.AsError(err); e == nil || e.Code != banger.HostUnready || !strings.Contains(e.Message+e.Remedy, c.word) || e.Remedy == "" {
				t.Errorf("%v (%+v)", err, e)
			}
		})
	}
}

// What would be of no use is not made.
func TestPrepareMakesNothingThatVMsCannotReach(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root's VMs run as users of their own")
	}
	l := fresh(t)
	if err := os.Chmod(filepath.Dir(l.Run), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.Prepare(); banger.CodeOf(err) != banger.HostUnready {
		t.Errorf("prepared: %v", err)
	}
	if _, err := os.Lstat(l.State); err == nil {
		t.Errorf("%s was made", l.State)
	}
}

// A client trusts a directory that others can write to as little as a daemon.
func TestCheck(t *testing.T) {
	l := fresh(t)
	if err := l.Check(); err != nil {
		t.Errorf("nothing there: %v", err)
	}
	if err := errors.Join(os.Mkdir(filepath.Dir(l.State), 0o755), mkdirMode(l.State, 0o711)); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(); err != nil {
		t.Error(err)
	}
	if err := unix.Chmod(l.State, 0o777); err != nil {
		t.Fatal(err)
	}
	if e := banger.AsError(l.Check()); e == nil || !strings.Contains(e.Remedy, "chmod go-w") {
		t.Errorf("writable by all: %v", e)
	}
}

func mkdirMode(dir string, m uint32) error {
	return errors.Join(os.Mkdir(dir, 0o700), unix.Chmod(dir, m))
}

// tmpfs mounts one on dir until the end of the test.
func tmpfs(t *testing.T, dir, options string, flags uintptr) {
	t.Helper()
	if err := os.Mkdir(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("layout", dir, "tmpfs", flags, options+",mode=711"); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
}
