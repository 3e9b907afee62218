package storagetest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/storage"
)

func testCreate(t *testing.T, b *bench) {
	b.create(t)
	if used := allocated(t, b.disk.Dir); used > b.Allocates {
		t.Errorf("a new disk allocates %d bytes, at most %d are allowed", used, b.Allocates)
	}
	path := b.attached(t)
	if n := b.Size(t, path); n != diskSize {
		t.Errorf("size %d, want %d", n, diskSize)
	}
	b.want(t, path, 4096, "basebase")
	b.want(t, path, baseSize, "\x00\x00\x00\x00")
	b.want(t, path, diskSize-4, "\x00\x00\x00\x00")
}

// A disk that is complete is left as it is, with what the VM wrote.
func testCreateAgain(t *testing.T, b *bench) {
	b.create(t)
	path := b.attached(t)
	b.Write(t, path, 4096, []byte("mine"))
	b.create(t)
	b.want(t, path, 4096, "minebase")
	b.untouched(t)
}

func testCreateAfterKill(t *testing.T, b *bench) {
	b.Halfway(t, b.disk)
	_, err := b.Strategy.Attach(t.Context(), b.base, b.disk)
	wantCode(t, err, banger.NotFound)
	b.create(t)
	b.want(t, b.attached(t), 0, "basebase")
	if f := b.files(t); len(f) != 1 {
		t.Errorf("files: %v", f)
	}
}

func testRemoveAfterKill(t *testing.T, b *bench) {
	b.Halfway(t, b.disk)
	must(t, b.Strategy.Remove(t.Context(), b.disk))
	b.empty(t)
}

func testAttachBeforeCreate(t *testing.T, b *bench) {
	_, err := b.Strategy.Attach(t.Context(), b.base, b.disk)
	wantCode(t, err, banger.NotFound)
	must(t, b.Strategy.Detach(t.Context(), b.disk))
	b.empty(t)
}

// A state directory may be moved, or restored elsewhere.
func testAttachAfterMove(t *testing.T, b *bench) {
	b.create(t)
	b.Write(t, b.attached(t), 4096, []byte("mine"))
	must(t, b.Strategy.Detach(t.Context(), b.disk))
	moved := filepath.Join(b.dir, "moved")
	must(t, os.Mkdir(moved, 0o711))
	must(t, os.Rename(b.base.Path, filepath.Join(moved, "base")))
	must(t, os.Rename(b.disk.Dir, filepath.Join(moved, "vm")))
	b.base.Path, b.disk.Dir = filepath.Join(moved, "base"), filepath.Join(moved, "vm")
	b.want(t, b.attached(t), 4092, "baseminebase")
}

// What one VM writes, neither the base nor another VM sees.
func testPrivate(t *testing.T, b *bench) {
	other := *b
	other.disk.VM, other.disk.Dir = "0badcaff", filepath.Join(b.dir, "other")
	must(t, os.Mkdir(other.disk.Dir, 0o700))
	b.create(t)
	other.create(t)
	b.Write(t, b.attached(t), 0, []byte("mine"))
	b.Write(t, b.attached(t), baseSize+512, []byte("mine"))
	b.want(t, other.attached(t), 0, "basebase")
	b.want(t, other.attached(t), baseSize+512, "\x00\x00\x00\x00")
	b.untouched(t)
}

func testSmallerThanBase(t *testing.T, b *bench) {
	b.disk.Size = baseSize - 512
	wantCode(t, b.Strategy.Create(t.Context(), b.base, b.disk), banger.Invalid)
	b.empty(t)
}

func testGrow(t *testing.T, b *bench) {
	b.create(t)
	path := b.attached(t)
	b.Write(t, path, diskSize-4, []byte("mine"))
	must(t, b.Strategy.Detach(t.Context(), b.disk))
	for range 2 { // idempotent
		must(t, b.Strategy.Grow(t.Context(), b.base, b.disk, 2*diskSize))
	}
	if z, ok := b.Strategy.(storage.Sizer); ok {
		if n, err := z.Size(b.disk); err != nil || n != 2*diskSize {
			t.Errorf("said to have %d bytes, want %d: %v", n, 2*diskSize, err)
		}
	}
	path = b.attached(t)
	if n := b.Size(t, path); n != 2*diskSize {
		t.Errorf("size %d, want %d", n, 2*diskSize)
	}
	b.want(t, path, diskSize-4, "mine\x00\x00\x00\x00")
	b.untouched(t)
}

func testNeverShrink(t *testing.T, b *bench) {
	b.create(t)
	for _, n := range []int64{diskSize - 512, baseSize, 0, -1} {
		wantCode(t, b.Strategy.Grow(t.Context(), b.base, b.disk, n), banger.Invalid)
	}
	if n := b.Size(t, b.attached(t)); n != diskSize {
		t.Errorf("size %d, want %d", n, diskSize)
	}
}

func testGrowBeforeCreate(t *testing.T, b *bench) {
	wantCode(t, b.Strategy.Grow(t.Context(), b.base, b.disk, 2*diskSize), banger.NotFound)
}

func testRemove(t *testing.T, b *bench) {
	b.create(t)
	for range 2 { // idempotent
		must(t, b.Strategy.Remove(t.Context(), b.disk))
	}
	b.empty(t)
	b.untouched(t)
	_, err := b.Strategy.Attach(t.Context(), b.base, b.disk)
	wantCode(t, err, banger.NotFound)
	must(t, os.Remove(b.disk.Dir))
	must(t, b.Strategy.Remove(t.Context(), b.disk))
}

// The error names the file that is gone, and nothing is left behind.
func testMissingBase(t *testing.T, b *bench) {
	b.create(t)
	must(t, os.Remove(b.base.Path))
	if _, err := b.Strategy.Attach(t.Context(), b.base, b.disk); b.Independent {
		must(t, err)
		must(t, b.Strategy.Detach(t.Context(), b.disk))
	} else if wantCode(t, err, banger.NotFound); err != nil && !strings.Contains(err.Error(), b.base.Path) {
		t.Errorf("%v does not name %s", err, b.base.Path)
	}
	must(t, b.Strategy.Remove(t.Context(), b.disk))
	wantCode(t, b.Strategy.Create(t.Context(), b.base, b.disk), banger.NotFound)
	b.empty(t)
}

func testMissingDirectory(t *testing.T, b *bench) {
	must(t, os.Remove(b.disk.Dir))
	if err := b.Strategy.Create(t.Context(), b.base, b.disk); err == nil {
		t.Error("created a disk in no directory")
	}
	if _, err := os.Stat(b.disk.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is the caller's to make: %v", err)
	}
}

func testCanceled(t *testing.T, b *bench) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Strategy.Create(ctx, b.base, b.disk); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	b.empty(t)
}

// allocated is what the files in dir take on the disk, bytes.
func allocated(t *testing.T, dir string) (n int64) {
	t.Helper()
	ents, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range ents {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(dir, e.Name()), &st))
		n += st.Blocks * 512
	}
	return n
}
