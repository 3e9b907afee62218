package clone_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/reflink"
	"banger/internal/storage"
	"banger/internal/storage/clone"
	"banger/internal/storage/storagetest"
)

func suite(s storage.Strategy) storagetest.Suite {
	return storagetest.Suite{
		Strategy:    s,
		Halfway:     halfway,
		Read:        storagetest.ReadFile,
		Write:       storagetest.WriteFile,
		Size:        storagetest.FileSize,
		Allocates:   9 << 20, // the base, and what the file system adds
		Independent: true,
	}
}

func TestCopy(t *testing.T) { suite(clone.Copy()).Run(t) }

func TestReflink(t *testing.T) {
	onBtrfs(t)
	suite(clone.Reflink()).Run(t)
}

// halfway leaves what each part of Create leaves if it is killed.
func halfway(t *testing.T, d storage.Disk) {
	t.Helper()
	for _, name := range []string{reflink.Prefix + "123", "disk.raw.tmp-ABC"} {
		if err := os.WriteFile(filepath.Join(d.Dir, name), []byte("ba"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// onBtrfs makes TMPDIR a file system that shares extents, until the test ends.
func onBtrfs(t *testing.T) {
	t.Helper()
	mkfs, err := exec.LookPath("mkfs.btrfs")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root and btrfs-progs, to make a file system that shares extents")
	}
	dir, err := os.MkdirTemp("", "banger-clone-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	image, mnt := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	for _, err := range []error{os.Chmod(dir, 0o711), os.WriteFile(image, nil, 0o600), os.Truncate(image, 256<<20), os.Mkdir(mnt, 0o711)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), mkfs, "-q", image).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), "mount", "-o", "loop", image, mnt).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: mount a btrfs: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, 0); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(mnt, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", mnt)
}

// Where extents are shared a reflink offers itself, and a disk takes no time and
// no room; elsewhere it says why not, and leaves nothing.
func TestProbe(t *testing.T) {
	plain := t.TempDir()
	if err := unix.Mount("clone", plain, "tmpfs", 0, "size=1m"); err == nil {
		t.Cleanup(func() { _ = unix.Unmount(plain, 0) })
		err := clone.Reflink().Probe(t.Context(), plain)
		if e := banger.AsError(err); e == nil || e.Code != banger.HostUnready || e.Remedy == "" {
			t.Errorf("on a tmpfs: %v", err)
		}
		if ents, _ := os.ReadDir(plain); len(ents) > 0 {
			t.Errorf("left %v", ents)
		}
	}
	if err := clone.Copy().Probe(t.Context(), plain); err != nil {
		t.Error(err)
	}
	onBtrfs(t)
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := clone.Reflink().Probe(t.Context(), dir); err != nil {
		t.Errorf("on btrfs: %v", err)
	}
	base := storage.Base{Path: filepath.Join(dir, "base"), Size: 64 << 20}
	if err := os.WriteFile(base.Path, make([]byte, base.Size), 0o400); err != nil {
		t.Fatal(err)
	}
	before := free(t, dir)
	d := storage.Disk{VM: "0badcafe", Dir: dir, Size: 1 << 30}
	if err := clone.Reflink().Create(t.Context(), base, d); err != nil {
		t.Fatal(err)
	}
	if used := before - free(t, dir); used > 8<<20 {
		t.Errorf("a reflink of %d bytes took %d", base.Size, used)
	}
}

func free(t *testing.T, dir string) int64 {
	t.Helper()
	unix.Sync()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bfree) * st.Bsize
}
