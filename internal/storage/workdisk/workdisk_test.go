package workdisk_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/host"
	"banger/internal/storage"
	"banger/internal/storage/workdisk"
)

const uuid = "12345678-90ab-8def-8234-567890abcdef"

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// bench is a VM's directory without a disk. It is not below what testing's
// TempDir makes, which a disk's owner cannot enter.
func bench(t *testing.T) (workdisk.Disks, storage.Disk) {
	t.Helper()
	if _, err := exec.LookPath("mke2fs"); err != nil {
		t.Skipf("needs e2fsprogs: %v", err)
	}
	dir, err := os.MkdirTemp("", "workdisk")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chmod(dir, 0o711), os.Mkdir(filepath.Join(dir, "vm"), 0o700))
	return workdisk.New(host.New(os.Getenv("PATH"))), storage.Disk{VM: "0badcafe", Dir: filepath.Join(dir, "vm"), Size: 8 << 30}
}

// names are what lies in the VM's directory.
func names(t *testing.T, d storage.Disk) string {
	t.Helper()
	ents, err := os.ReadDir(d.Dir)
	must(t, err)
	var all []string
	for _, e := range ents {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// A new disk is a sound file system with the UUID that it is to have, and costs
// next to nothing; made again, it is left alone.
func TestCreate(t *testing.T) {
	k, d := bench(t)
	must(t, k.Probe(t.Context()))
	for _, c := range []struct{ size, allocates int64 }{{64 << 20, 512 << 10}, {1 << 30, 512 << 10}, {8 << 30, 512 << 10}, {200 << 30, 4 << 20}} {
		d.Size = c.size
		must(t, k.Create(t.Context(), d, uuid))
		path, err := k.Attach(d)
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Stat(path, &st))
		if st.Size != c.size || st.Blocks*512 > c.allocates || st.Mode != unix.S_IFREG|0o600 {
			t.Errorf("%d bytes: has %d, allocates %d, mode %o", c.size, st.Size, st.Blocks*512, st.Mode)
		}
		about := tool(t, "dumpe2fs", "-h", path)
		for _, want := range []string{uuid, "has_journal", "metadata_csum", "resize_inode"} {
			if !strings.Contains(about, want) {
				t.Errorf("%d bytes: no %s in\n%s", c.size, want, about)
			}
		}
		tool(t, "e2fsck", "-fn", path)
		must(t, k.Create(t.Context(), d, uuid))
		var again unix.Stat_t
		must(t, unix.Stat(path, &again))
		if again.Ino != st.Ino || names(t, d) != "work.img" {
			t.Errorf("made again: %s", names(t, d))
		}
		must(t, k.Remove(d), k.Remove(d))
		if names(t, d) != "" {
			t.Errorf("left: %s", names(t, d))
		}
	}
}

// It grows and never shrinks, and no byte is written for it.
func TestGrow(t *testing.T) {
	k, d := bench(t)
	d.Size = 64 << 20
	if err := k.Grow(d); banger.CodeOf(err) != banger.NotFound {
		t.Errorf("before it is there: %v", err)
	}
	must(t, k.Create(t.Context(), d, uuid))
	for _, c := range []struct{ ask, have int64 }{{64 << 20, 64 << 20}, {3 << 30, 3 << 30}, {1 << 30, 3 << 30}, {0, 3 << 30}} {
		d.Size = c.ask
		must(t, k.Grow(d))
		if size, err := k.Size(d); err != nil || size != c.have {
			t.Errorf("asked for %d: %d, %v", c.ask, size, err)
		}
	}
	path, err := k.Attach(d)
	must(t, err)
	tool(t, "e2fsck", "-fp", path)
	tool(t, "resize2fs", path)
	tool(t, "e2fsck", "-fn", path)
}

// What a Create that was killed left goes at the next one, or with the VM.
func TestKilled(t *testing.T) {
	k, d := bench(t)
	for _, next := range []func() error{
		func() error { return k.Create(t.Context(), d, uuid) },
		func() error { return k.Remove(d) },
	} {
		must(t, os.WriteFile(filepath.Join(d.Dir, "work.img.tmp-ABC"), []byte("half"), 0o600), os.WriteFile(filepath.Join(d.Dir, "other"), nil, 0o600))
		must(t, next())
		if got := strings.TrimSpace(strings.ReplaceAll(names(t, d), "work.img", "")); got != "other" {
			t.Errorf("left: %s", got)
		}
	}
}

// A disk that is gone, or was swapped for something else, is not used, and what
// took its place is not touched.
func TestHostile(t *testing.T) {
	k, d := bench(t)
	victim := filepath.Join(filepath.Dir(d.Dir), "victim")
	must(t, os.WriteFile(victim, []byte("precious"), 0o600))
	path := filepath.Join(d.Dir, "work.img")
	for what, swap := range map[string]func() error{
		"nothing":     func() error { return nil },
		"a symlink":   func() error { return os.Symlink(victim, path) },
		"a FIFO":      func() error { return unix.Mkfifo(path, 0o600) },
		"a directory": func() error { return os.Mkdir(path, 0o700) },
		"another's":   func() error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, 4711, 4711)) },
		"a dead link": func() error { return os.Symlink(victim+"2", path) },
	} {
		if what == "another's" && os.Geteuid() != 0 {
			continue
		}
		must(t, swap())
		_, attached := k.Attach(d)
		_, size := k.Size(d)
		for did, err := range map[string]error{"attach": attached, "size": size, "grow": k.Grow(d)} {
			want := banger.Internal
			if what == "nothing" {
				want = banger.NotFound
			}
			if e := banger.AsError(err); e == nil || e.Code != want || e.Remedy == "" {
				t.Errorf("%s, %s: %v", what, did, err)
			}
		}
		if what != "nothing" {
			if err := k.Create(t.Context(), d, uuid); err == nil {
				t.Errorf("%s: created over it", what)
			}
		}
		must(t, os.RemoveAll(path))
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Errorf("the victim is %q, %v", b, err)
	}
	if _, err := os.Stat(victim + "2"); err == nil {
		t.Error("something was made where a link led")
	}
}

// What cannot be made says why, and leaves nothing.
func TestCannotBeMade(t *testing.T) {
	k, d := bench(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.Create(ctx, d, uuid); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if err := k.Create(t.Context(), d, "no UUID"); err == nil {
		t.Error("made with no UUID")
	}
	if names(t, d) != "" {
		t.Errorf("left: %s", names(t, d))
	}
	if os.Geteuid() != 0 {
		t.Skip("the rest needs root, to mount a file system of a few pages")
	}
	must(t, unix.Mount("workdisk", d.Dir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, "size=32k,mode=700"))
	defer func() { must(t, unix.Unmount(d.Dir, 0)) }()
	err := k.Create(t.Context(), d, uuid)
	if e := banger.AsError(err); e == nil || e.Code != banger.HostUnready || !strings.HasPrefix(e.Remedy, "make room") {
		t.Errorf("no room: %v (%s)", err, banger.CodeOf(err))
	}
	if names(t, d) != "" {
		t.Errorf("left: %s", names(t, d))
	}
}

// As root, the disk is its owner's, who made the file system.
func TestOwner(t *testing.T) {
	k, d := bench(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a disk to another user")
	}
	d.Owner = &banger.Owner{UID: 0x70001003, GID: 0x70001003}
	must(t, os.Chown(d.Dir, int(d.Owner.UID), int(d.Owner.GID)))
	must(t, k.Create(t.Context(), d, uuid))
	path, err := k.Attach(d)
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	if st.Uid != d.Owner.UID || st.Gid != d.Owner.GID || st.Mode&0o777 != 0o600 {
		t.Errorf("it belongs to %d:%d, mode %o", st.Uid, st.Gid, st.Mode&0o777)
	}
	d.Size *= 2
	must(t, k.Grow(d), k.Remove(d))
}
