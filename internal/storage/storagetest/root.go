package storagetest

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
)

// A directory without room gives an error that says so, and leaves nothing in it.
func testFull(t *testing.T, b *bench) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a file system of a few pages")
	}
	if err := unix.Mount("storagetest", b.disk.Dir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, "size=32k,mode=700"); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(b.disk.Dir, 0)) })
	err := b.Strategy.Create(t.Context(), b.base, b.disk)
	if e := banger.AsError(err); e == nil || e.Code != banger.HostUnready || e.Remedy == "" {
		t.Errorf("err = %v (%s)", err, banger.CodeOf(err))
	}
	b.empty(t)
}

// As root, the disk is the owner's: its VMM opens it, and nobody else does.
func testOwner(t *testing.T, b *bench) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a disk to another user")
	}
	b.disk.Owner = &banger.Owner{UID: 0x70001003, GID: 0x70001003}
	must(t, os.Chown(b.disk.Dir, int(b.disk.Owner.UID), int(b.disk.Owner.GID)))
	b.create(t)
	path := b.attached(t)
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	// A device's group may be udev's choice, as long as it says nothing.
	file := st.Mode&unix.S_IFMT == unix.S_IFREG
	if st.Uid != b.disk.Owner.UID || file && st.Gid != b.disk.Owner.GID || st.Mode&0o777 != 0o600 {
		t.Errorf("%s belongs to %d:%d, mode %o", path, st.Uid, st.Gid, st.Mode&0o777)
	}
	must(t, b.Strategy.Detach(t.Context(), b.disk))
	must(t, b.Strategy.Grow(t.Context(), b.base, b.disk, 2*diskSize))
	if n := b.Size(t, b.attached(t)); n != 2*diskSize {
		t.Errorf("size %d after growing", n)
	}
	must(t, b.Strategy.Detach(t.Context(), b.disk))
	must(t, b.Strategy.Remove(t.Context(), b.disk))
	b.empty(t)
}
