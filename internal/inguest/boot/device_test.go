package boot_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"banger/internal/inguest/boot"
)

func TestWaitDevice(t *testing.T) {
	if _, err := boot.WaitDevice(filepath.Join(t.TempDir(), "vda"), time.Millisecond); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no device: %v", err)
	}
	f, err := boot.WaitDevice("/dev/null", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}
