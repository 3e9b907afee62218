package store_test

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/store"
)

// raw opens the database past the Store.
func raw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func pragma(t *testing.T, path, name string) (value string) {
	t.Helper()
	if err := raw(t, path).QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// The database and what SQLite makes beside it are the user's alone, whatever
// the umask; an older one with a looser mode is tightened.
func TestPrivate(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	dir := t.TempDir()
	path := filepath.Join(dir, "banger.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	if err := s.PutImage(t.Context(), image(1, "x")); err != nil {
		t.Fatal(err)
	}
	ents, err := os.ReadDir(dir)
	if err != nil || len(ents) != 3 {
		t.Errorf("%v %v", ents, err)
	}
	for _, e := range ents {
		fi, err := e.Info()
		if err != nil || fi.Mode() != fs.FileMode(0o600) {
			t.Errorf("%s: %v, %v", e.Name(), fi.Mode(), err)
		}
	}
	if m := pragma(t, path, "journal_mode"); m != "wal" {
		t.Errorf("journal mode %s", m)
	}
}

func TestNewerSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "banger.db")
	open(t, path).Close()
	if _, err := raw(t, path).ExecContext(t.Context(), "PRAGMA user_version = 999"); err != nil {
		t.Fatal(err)
	}
	_, err := store.Open(t.Context(), path)
	wantCode(t, err, banger.HostUnready, "written by a newer banger", "BANGER_STATE_DIR", path)
	if v := pragma(t, path, "user_version"); v != "999" {
		t.Errorf("user_version is now %s", v)
	}
}

func TestNotADatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "banger.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("this is no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := store.Open(t.Context(), path)
	wantCode(t, err, banger.HostUnready, path, "backup")
}

func TestMissingDirectory(t *testing.T) {
	_, err := store.Open(t.Context(), "/nowhere/banger.db")
	wantCode(t, err, banger.HostUnready, "/nowhere/banger.db")
}

// mountTmpfs makes dir a small file system of its own; needs root.
func mountTmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	if err := unix.Mount("store", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
}

func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	mountTmpfs(t, dir, "size=1m")
	path := filepath.Join(dir, "banger.db")
	open(t, path).Close()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err := store.Open(t.Context(), path)
	wantCode(t, err, banger.HostUnready, path, "writable", "BANGER_STATE_DIR")
}

func TestUnwritable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("needs a user that a mode can stop: root writes anywhere")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	_, err := store.Open(t.Context(), filepath.Join(dir, "banger.db"))
	wantCode(t, err, banger.HostUnready, dir, "ls -ld")
}

// A file system that runs full is an error in words; what was stored before is
// there, and once there is room it goes on.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	mountTmpfs(t, dir, "size=512k")
	s := open(t, filepath.Join(dir, "banger.db"))
	if err := s.PutImage(t.Context(), image(1, "debian-12")); err != nil {
		t.Fatal(err)
	}
	create(t, s, 1, "web")
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	n := 2
	for err = nil; err == nil && n < 1000; n++ { // some pages are free in the files themselves
		_, err = s.CreateVM(t.Context(), record(n, fmt.Sprintf("vm-%d", n)), lease)
	}
	wantCode(t, err, banger.HostUnready, "df -h "+dir)
	if all, err := s.VMs(t.Context()); err != nil || len(all) != n-2 {
		t.Errorf("%d VMs, want %d, %v", len(all), n-2, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	create(t, s, 5000, "later")
}

// A process that is killed in the middle of writes loses nothing that it was
// told is stored, and leaves nothing half done.
func TestKilled(t *testing.T) {
	const variable = "STORE_TEST_KILLED"
	if path := os.Getenv(variable); path != "" {
		writeUntilKilled(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "banger.db")
	s := open(t, path)
	if err := s.PutImage(t.Context(), image(1, "debian-12")); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for round := range 5 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), variable+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var told string
		lines := bufio.NewScanner(out)
		for n := 0; n < 20+round && lines.Scan(); n++ {
			told = lines.Text()
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()

		if v := pragma(t, path, "integrity_check"); v != "ok" {
			t.Fatalf("integrity: %s", v)
		}
		if v := raw(t, path).QueryRow("PRAGMA foreign_key_check").Scan(new(any)); !errors.Is(v, sql.ErrNoRows) {
			t.Fatalf("foreign keys: %v", v)
		}
		s := open(t, path)
		r, err := s.FindVM(t.Context(), told)
		if err != nil || r.Intent != banger.IntentRunning || r.Run == nil {
			t.Errorf("round %d: %q: %+v, %v", round, told, r, err)
		}
		all, err := s.VMs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			if (r.Intent == banger.IntentRunning) != (r.Run != nil) {
				t.Errorf("half an update: %+v", r)
			}
			if err := s.DeleteVM(t.Context(), r.ID); err != nil {
				t.Error(err)
			}
		}
		s.Close()
	}
}

// writeUntilKilled creates VMs and says the name of each that is stored.
func writeUntilKilled(t *testing.T, path string) {
	s := open(t, path)
	for n := 1; ; n++ {
		r := create(t, s, n, fmt.Sprintf("vm-%d", n))
		_, err := s.UpdateVM(t.Context(), r.ID, func(r *banger.Record) error {
			r.Intent, r.Run = banger.IntentRunning, &banger.Run{Launch: strings.Repeat("0", 16)}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(r.Spec.Name)
	}
}
