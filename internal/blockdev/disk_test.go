package blockdev_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/blockdev"
)

const (
	user     = 65534
	diskSize = 4 << 20
)

var disk = blockdev.Disk{Tag: "beef", VM: "0badcafe"}

// newDisks is a world of a user's, on a host with a device mapper, which is as it
// was when the test ends.
func newDisks(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	if !mapper() {
		t.Skip("SKIPPED: no device mapper here")
	}
	must(t, w.cow.Chown(user, user))
	w.host = blockdev.New(user, w.dir)
	t.Cleanup(func() {
		must(t, w.host.Detach(disk))
		w.nothing(t)
	})
	return w
}

func mapper() bool {
	f, err := os.Open("/dev/mapper/control")
	if err == nil {
		f.Close()
	}
	return err == nil
}

// nothing fails if there is a device of the disk's, or a loop device of its files.
func (w *world) nothing(t *testing.T) {
	t.Helper()
	if all := mappers(t); len(all) > 0 {
		t.Errorf("left %v", all)
	}
	eventually(t, "the kernel clears the loop devices", func() bool { return len(bound(t, w.dir)) == 0 })
	for _, pattern := range []string{"/dev/mapper/banger-*", "/dev/loop4????", "/run/udev/rules.d/*banger*"} {
		eventually(t, "no "+pattern, func() bool {
			all, _ := filepath.Glob(pattern)
			if len(all) > 0 {
				must(t, w.host.Detach(disk)) // what was busy then goes with the next request
			}
			return len(all) == 0
		})
	}
}

// mappers are the UUIDs of banger's mapper devices.
func mappers(t *testing.T) (all []string) {
	t.Helper()
	files, err := filepath.Glob("/sys/block/dm-*/dm/uuid")
	must(t, err)
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(b), "BANGER-") {
			all = append(all, strings.TrimSpace(string(b)))
		}
	}
	return all
}

func (w *world) attach(t *testing.T, size int64) string {
	t.Helper()
	dev, err := w.host.Attach(disk, size, w.image, w.cow)
	must(t, err)
	return dev
}

func read(t *testing.T, path string, at int64, n int) string {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	p := make([]byte, n)
	_, err = f.ReadAt(p, at)
	must(t, err)
	return string(p)
}

func write(t *testing.T, path string, at int64, p []byte) error {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(p, at)
	for _, e := range []error{f.Sync(), f.Close()} {
		if err == nil {
			err = e
		}
	}
	return err
}

// The whole life: a device of the user's, the image and then zeros in it, what is
// written kept, the image untouched; the same again, larger, of other files; and
// nothing left.
func TestDisk(t *testing.T) {
	w := newDisks(t)
	dir, err := os.Open(w.dir)
	must(t, err)
	defer dir.Close()
	must(t, w.host.Probe(dir))
	dev := w.attach(t, diskSize)
	var st unix.Stat_t
	must(t, unix.Stat(dev, &st))
	if st.Uid != user || st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Mode&0o007 != 0 {
		t.Errorf("%s: uid %d, mode %#o", dev, st.Uid, st.Mode)
	}
	if got := read(t, dev, imageSize-4, 8); got != "base\x00\x00\x00\x00" {
		t.Errorf("where the image ends: %q", got)
	}
	for _, at := range []int64{4096, imageSize, diskSize - 4} {
		must(t, write(t, dev, at, []byte("mine")))
	}
	used, total, err := w.host.Fill(disk)
	if err != nil || used < 3*4096 || used > 1<<20 || total != cowSize {
		t.Errorf("fill: %d of %d, %v", used, total, err)
	}
	if again := w.attach(t, diskSize); again != dev {
		t.Errorf("attached twice: %s, %s", dev, again)
	}
	must(t, w.host.Detach(disk))
	must(t, w.host.Detach(disk))
	w.nothing(t)
	if _, _, err := w.host.Fill(disk); banger.CodeOf(err) != banger.NotFound {
		t.Errorf("fill of what is detached: %v", err)
	}

	dev = w.attach(t, 2*diskSize) // grown
	if got := read(t, dev, diskSize-4, 8); got != "mine\x00\x00\x00\x00" {
		t.Errorf("grown: %q", got)
	}
	must(t, os.WriteFile(w.imagePath+"2", bytes.Repeat([]byte("next"), imageSize/4), 0o444))
	image, err := os.Open(w.imagePath + "2")
	must(t, err)
	defer image.Close()
	dev, err = w.host.Attach(disk, 2*diskSize, image, w.cow)
	must(t, err)
	if got := read(t, dev, 4092, 12); got != "nextminebase" { // of the chunk that was copied
		t.Errorf("over another image: %q", got)
	}
	content, err := os.ReadFile(w.imagePath)
	if err != nil || !bytes.Equal(content, bytes.Repeat([]byte("base"), imageSize/4)) {
		t.Errorf("the image was changed: %v", err)
	}
}

// While somebody has it open it is Busy and stays whole; then it goes.
func TestBusy(t *testing.T) {
	w := newDisks(t)
	dev := w.attach(t, diskSize)
	f, err := os.Open(dev)
	must(t, err)
	for range 2 {
		if err := w.host.Detach(disk); banger.CodeOf(err) != banger.Busy || banger.AsError(err).Remedy == "" {
			t.Errorf("%v", err)
		}
	}
	if _, err := f.ReadAt(make([]byte, 4096), 0); err != nil || len(mappers(t)) != 2 || len(bound(t, w.dir)) != 2 {
		t.Errorf("half taken down: %v, %v, %v", err, mappers(t), bound(t, w.dir))
	}
	must(t, f.Close())
	must(t, w.host.Detach(disk))
}

// All of a disk can change in a file of the size that package dmsnap gives it; one
// that is smaller runs full, which is told as what it is.
func TestFull(t *testing.T) {
	w := newDisks(t)
	chunks := int64(diskSize / 4096)
	must(t, os.Truncate(w.cowPath, 4096*(1+chunks+(chunks+255)/256+1)))
	dev := w.attach(t, diskSize)
	all := bytes.Repeat([]byte("mine"), diskSize/4)
	must(t, write(t, dev, 0, all))
	if used, total, err := w.host.Fill(disk); err != nil || used > total {
		t.Errorf("all written: %d of %d, %v", used, total, err)
	}
	must(t, w.host.Detach(disk))
	dev = w.attach(t, diskSize)
	if got := read(t, dev, 0, diskSize); got != string(all) {
		t.Error("attached again it is another")
	}
	must(t, w.host.Detach(disk))

	must(t, os.Truncate(w.cowPath, 0))
	must(t, os.Truncate(w.cowPath, 1<<20))
	dev = w.attach(t, diskSize)
	if err := write(t, dev, 0, all); err == nil {
		t.Error("more was written than fits")
	}
	if _, _, err := w.host.Fill(disk); banger.CodeOf(err) != banger.WrongState || !strings.Contains(banger.AsError(err).Remedy, "vm reset 0badcafe") {
		t.Errorf("overflown: %v", err)
	}
}

// A header that the user writes after it was looked at is found in the table.
func TestForeignHeader(t *testing.T) {
	w := newDisks(t)
	dev := w.attach(t, diskSize)
	must(t, write(t, dev, 0, []byte("mine")))
	must(t, w.host.Detach(disk))
	_, err := w.cow.WriteAt([]byte{16}, 12) // 16 sectors a chunk
	must(t, err)
	if _, err := w.host.Attach(disk, diskSize, w.image, w.cow); banger.CodeOf(err) != banger.Invalid {
		t.Errorf("%v", err)
	}
	w.nothing(t)
}

// Another user who has taken the name keeps nobody from anything, and is not
// touched.
func TestNameTaken(t *testing.T) {
	w, other := newDisks(t), newDisks(t)
	must(t, other.cow.Chown(user-1, user-1))
	other.host = blockdev.New(user-1, other.dir)
	t.Cleanup(func() { must(t, other.host.Detach(disk)) }) // before the others look
	first := other.attach(t, diskSize)
	must(t, write(t, first, 0, []byte("others")))
	dev := w.attach(t, diskSize)
	if got := read(t, dev, 0, 4); dev == first || got != "base" {
		t.Errorf("%s: %q", dev, got)
	}
	if len(mappers(t)) != 4 {
		t.Errorf("%v", mappers(t))
	}
	must(t, w.host.Detach(disk))
	if got := read(t, first, 0, 6); got != "others" || len(mappers(t)) != 2 {
		t.Errorf("the other's: %q, %v", got, mappers(t))
	}
	must(t, other.host.Detach(disk))
}

// udev neither looks into the files nor makes links of what is in them, and leaves
// the device to the user.
func TestUdev(t *testing.T) {
	w := newDisks(t)
	if _, err := os.Stat("/run/udev/control"); err != nil {
		t.Skip("SKIPPED: no udev here")
	}
	const uuid, label = "0badcafe-0bad-cafe-0bad-cafe0badcafe", "banger-test"
	mkfs := func(path string) {
		if out, err := exec.CommandContext(t.Context(), "mke2fs", "-q", "-F", "-t", "ext4", "-U", uuid, "-L", label, path).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	must(t, os.Chmod(w.imagePath, 0o600))
	mkfs(w.imagePath)
	dev := w.attach(t, diskSize)
	mkfs(dev) // closes it after writing, which udev would hear of
	settle := func() {
		if out, err := exec.CommandContext(t.Context(), "udevadm", "settle", "-t", "30").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	settle()
	for _, link := range []string{"/dev/disk/by-uuid/" + uuid, "/dev/disk/by-label/" + label} {
		if to, err := os.Readlink(link); err == nil {
			t.Errorf("%s leads to %s", link, to)
		}
	}
	devices := []string{dev}
	for _, l := range bound(t, w.dir) {
		devices = append(devices, "/dev/"+l)
	}
	for _, d := range devices {
		out, err := exec.CommandContext(t.Context(), "udevadm", "info", "--query=property", "--name="+d).Output()
		if err != nil || strings.Contains(string(out), "ID_FS_") || !strings.Contains(string(out), "UDISKS_IGNORE=1") {
			t.Errorf("udev knows of %s, %v:\n%s", d, err, out)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(dev, &st); err != nil || st.Uid != user || st.Mode&0o777 != 0o600 {
		t.Errorf("after udev, %s is uid %d's, mode %#o: %v", dev, st.Uid, st.Mode, err)
	}
	if _, err := os.Stat(fmt.Sprintf("/dev/mapper/banger-%s-%s", disk.Tag, disk.VM)); err != nil {
		t.Errorf("no link for people: %v", err)
	}
	must(t, w.host.Detach(disk))
	settle()
}

// Sixteen at once, and they go.
func TestMany(t *testing.T) {
	w := newDisks(t)
	var all []blockdev.Disk
	for n := range 16 {
		d := blockdev.Disk{Tag: "beef", VM: banger.VMID(fmt.Sprintf("%08x", n))}
		path := fmt.Sprintf("%s%d", w.cowPath, n)
		must(t, os.WriteFile(path, nil, 0o600))
		must(t, os.Truncate(path, cowSize))
		must(t, os.Chown(path, user, user))
		cow, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		defer cow.Close()
		dev, err := w.host.Attach(d, diskSize, w.image, cow)
		must(t, err)
		must(t, write(t, dev, 4096, []byte(d.VM)))
		all = append(all, d)
	}
	for _, d := range all {
		must(t, w.host.Detach(d))
	}
}
