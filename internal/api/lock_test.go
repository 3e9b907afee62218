package api_test

import (
	"os"
	"path/filepath"
	"testing"

	"banger/internal/api"

	"golang.org/x/sys/unix"
)

func TestReadLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "daemon.lock")
	if l, held, err := api.ReadLock(path); err != nil || held || l.PID != 0 {
		t.Fatalf("no file: %+v, %v, %v", l, held, err)
	}

	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if l, held, err := api.ReadLock(path); err != nil || !held || l.PID != 0 {
		t.Errorf("locked, not written: %+v, %v, %v", l, held, err)
	}
	if _, err := f.WriteString(`{"pid": 12, "socket": "/s"`); err != nil {
		t.Fatal(err)
	}
	if l, held, err := api.ReadLock(path); err != nil || !held || l.PID != 0 {
		t.Errorf("half written: %+v, %v, %v", l, held, err)
	}
	if _, err := f.WriteString(`}`); err != nil {
		t.Fatal(err)
	}
	if l, held, err := api.ReadLock(path); err != nil || !held || l.PID != 12 || l.Socket != "/s" {
		t.Errorf("held: %+v, %v, %v", l, held, err)
	}

	if err := unix.Flock(int(f.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if l, held, err := api.ReadLock(path); err != nil || held || l.PID != 12 {
		t.Errorf("left behind: %+v, %v, %v", l, held, err)
	}
}
