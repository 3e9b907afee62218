package store_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"banger/internal/store"
)

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
