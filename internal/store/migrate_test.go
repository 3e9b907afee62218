package store_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"banger"
	"banger/internal/store"
)

// A VM of an older schema keeps what it was meant to be, and has no work disk.
func TestMigrateIntent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "banger.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"0001_init.sql", "0002_links.sql"} {
		b, err := os.ReadFile(filepath.Join("migrations", name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(string(b)); err != nil {
			t.Fatal(err)
		}
	}
	const id = "0a1b2c3d"
	if _, err := db.Exec(`PRAGMA user_version = 2;
		INSERT INTO image VALUES ('0123456789ab', 'debian', 1, 'Debian', '6.1', '{}', '{}', '{}', '{}', 1, '/b');
		INSERT INTO vm (id, name, image, image_id, cpus, memory, disk, network, backend, address, mac, machine_id, host_key, intent, created_at)
		VALUES ('0a1b2c3d', 'web', 'debian', '0123456789ab', 1, 1, 1, 'user', 'qemu', '10.0.0.1', '02:00:00:00:00:01',
			'0123456789abcdef0123456789abcdef', 'key', 'running', 1)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	r, err := s.VM(t.Context(), id)
	if err != nil || r.Intent != banger.IntentRunning || r.Spec.WorkDisk != 0 {
		t.Errorf("intent %q, a work disk of %d bytes, %v", r.Intent, r.Spec.WorkDisk, err)
	}
	for intent, ok := range map[banger.Intent]bool{banger.IntentResetting: true, "dreaming": false} {
		_, err := s.UpdateVM(t.Context(), id, func(r *banger.Record) error { r.Intent = intent; return nil })
		if (err == nil) != ok {
			t.Errorf("intent %s: %v", intent, err)
		}
	}
}

// VMs in mode routed that never reached the world do not begin to.
func TestMigrateNAT(t *testing.T) {
	path := filepath.Join(t.TempDir(), "banger.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"0001_init.sql", "0002_links.sql", "0003_reset.sql"} {
		b, err := os.ReadFile(filepath.Join("migrations", name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(string(b)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Exec(`PRAGMA user_version = 3;
		INSERT INTO image VALUES ('0123456789ab', 'debian', 1, 'Debian', '6.1', '{}', '{}', '{}', '{}', 1, '/b')`); err != nil {
		t.Fatal(err)
	}
	for n, mode := range []string{"user", "routed"} {
		if _, err := db.Exec(`INSERT INTO vm (id, name, image, image_id, cpus, memory, disk, network, backend, address, mac, machine_id, host_key, created_at)
			VALUES (?, ?, 'debian', '0123456789ab', 1, 1, 1, ?, 'qemu', ?, ?, ?, 'key', 1)`,
			fmt.Sprintf("%08x", n), mode, mode, fmt.Sprintf("10.0.0.%d", n+3), fmt.Sprintf("02:00:00:00:00:%02x", n), fmt.Sprintf("%032x", n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	for name, want := range map[string]banger.NAT{"user": banger.NATWanted, "routed": banger.NATOff} {
		if r, err := s.FindVM(t.Context(), name); err != nil || r.Spec.NAT != want {
			t.Errorf("%s: NAT %q, %v", name, r.Spec.NAT, err)
		}
	}
}

// Migrations are numbered from 1 without gaps: the number is their place.
func TestMigrationNumbers(t *testing.T) {
	names, err := store.MigrationNames()
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for i, n := range names {
		if !strings.HasPrefix(filepath.Base(n), fmt.Sprintf("%04d_", i+1)) {
			t.Errorf("%s is number %d", n, i+1)
		}
	}
	path := filepath.Join(t.TempDir(), "banger.db")
	var wg sync.WaitGroup
	for range 4 { // at once
		wg.Go(func() {
			s, err := store.Open(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	wg.Wait()
	for range 2 { // the second finds nothing to do
		open(t, path).Close()
		if v := pragma(t, path, "user_version"); v != strconv.Itoa(len(names)) {
			t.Errorf("user_version %s, want %d", v, len(names))
		}
	}
}
