// Package blockdev makes a VM's root disk out of two files: the image, which is
// only read, and a copy-on-write file that takes what the VM writes. Two loop
// devices, and two mapper devices over them:
//
//	banger-TAG-ID-origin  0 I linear IMAGE 0; I S-I zero
//	banger-TAG-ID         0 S snapshot ORIGIN COW P 8
//
// of I and S sectors. It runs in banger-root and remembers nothing: mapper
// devices are found by their UUID, which names user, installation and VM; loop
// devices by what the tables say, and their files by inode.
package blockdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/fault"
)

const (
	// MaxSize bounds a disk, in bytes.
	MaxSize = 64 << 40
	// maxDisks bounds what one user may have attached.
	maxDisks = 1024

	sector = 512
	chunk  = 8 // sectors that are copied at a time, and that one exception is about
)

// A Host makes root disks for one user.
type Host struct {
	uid   uint32
	lock  string // a directory of root's: one at a time looks for a loop device
	rules string // udev's directory for rules until the next boot
	udev  string // udevd's control socket
}

// New returns the Host for uid. lock is a directory that only root opens.
func New(uid uint32, lock string) *Host {
	return &Host{uid, lock, "/run/udev/rules.d", "/run/udev/control"}
}

// A Disk is one root disk of the user's.
type Disk struct {
	Tag string // of the installation, valid
	VM  banger.VMID
}

func (d Disk) name() string { return fmt.Sprintf("banger-%s-%s", d.Tag, d.VM) }

// uuid is the device's; ownership is the uid in it. Package dmsnap reads it.
func (h *Host) uuid(d Disk) string { return fmt.Sprintf("%s%s-%s", h.prefix(), d.Tag, d.VM) }
func (h *Host) prefix() string     { return fmt.Sprintf("BANGER-%d-", h.uid) }

const origin = "-origin" // ends name and UUID of what the snapshot is of

// Probe reports why no disk can be attached whose copy-on-write file lies in the
// directory dir; HostUnready with a remedy.
func (h *Host) Probe(dir *os.File) error {
	c, err := open()
	if err != nil {
		return err
	}
	if err := errors.Join(c.probe(), unix.Access(loopControl, unix.F_OK), c.Close()); err != nil {
		return absent(err)
	}
	return checkFS(dir)
}

func absent(err error) error {
	return banger.Errorf(banger.HostUnready, "this host has no device-mapper snapshots: %w", err).
		WithRemedy("sudo modprobe dm_snapshot && sudo modprobe loop; without them banger makes other disks")
}

// Attach makes d, of size bytes, and returns the path of its device, which is
// then the user's own. A disk that is there already, of the same files and size,
// is left as it is. What is there of another is taken down first. The files are
// the caller's to close.
func (h *Host) Attach(d Disk, size int64, image, cow *os.File) (device string, err error) {
	if err := h.check(size, image, cow); err != nil {
		return "", err
	}
	c, err := open()
	if err != nil {
		return "", err
	}
	defer c.Close()
	dev, there, err := h.find(c, d, size, image, cow)
	if err != nil {
		return "", err
	}
	if !there {
		if err := h.detach(c, d); err != nil {
			return "", fmt.Errorf("take down what is there: %w", err)
		}
		dev, err = h.make(c, d, size, image, cow)
	}
	if err == nil {
		device, err = own(dev, h.uid)
	}
	if err != nil && !there {
		if e := h.detach(c, d); e != nil {
			err = errors.Join(err, fmt.Errorf("undo: %w", e))
		}
	}
	return device, err
}

// make binds the loop devices and loads the tables. Until the second table holds
// the loop devices, their descriptors do: whatever ends in between, they go.
func (h *Host) make(c *control, d Disk, size int64, image, cow *os.File) (dev uint64, err error) {
	if n := h.attached(); n >= maxDisks {
		return 0, banger.Errorf(banger.HostUnready, "%d disks are attached for uid %d: no more are allowed", n, h.uid).WithRemedy("stop some VMs")
	}
	loops, err := h.bind(image, cow)
	defer func() {
		for _, l := range loops {
			err = errors.Join(err, l.Close())
		}
	}()
	if err != nil {
		return 0, err
	}
	i, s := loops[0], uint64(size)/sector
	if i.sectors > s {
		return 0, banger.Errorf(banger.Invalid, "a disk of %d bytes is smaller than its image", size)
	}
	base := []target{{0, i.sectors, "linear", i.String() + " 0"}}
	if i.sectors < s {
		base = append(base, target{i.sectors, s - i.sectors, "zero", ""})
	}
	under, err := h.device(c, d, "origin", origin, unix.DM_READONLY_FLAG, base)
	if err != nil {
		return 0, err
	}
	return h.device(c, d, "snapshot", "", 0, []target{{0, s, "snapshot", snapshotOf(number(under), loops[1].String())}})
}

// device makes one of d's devices. Names are for people: where another user's has
// it, the uid is added, so that nobody is kept from starting a VM by somebody who
// took its name.
func (h *Host) device(c *control, d Disk, what, suffix string, flags uint32, t []target) (uint64, error) {
	name := d.name() + suffix
	switch _, err := c.status("", name); {
	case err == nil:
		name = fmt.Sprintf("%s-%d%s", d.name(), h.uid, suffix)
	case !errors.Is(err, unix.ENXIO):
		return 0, err
	}
	return c.make(what, name, h.uuid(d)+suffix, flags, t)
}

func snapshotOf(origin, cow string) string { return fmt.Sprintf("%s %s P %d", origin, cow, chunk) }

// find looks for d, and reports whether it is made of these files and has size
// bytes.
func (h *Host) find(c *control, d Disk, size int64, image, cow *os.File) (dev uint64, same bool, err error) {
	st, err := c.status(h.uuid(d), "")
	if errors.Is(err, unix.ENXIO) || err == nil && !st.active {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	top, err := c.table(h.uuid(d))
	if err != nil {
		return 0, false, err
	}
	below, err := c.table(h.uuid(d) + origin)
	if errors.Is(err, unix.ENXIO) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	under, err := c.status(h.uuid(d)+origin, "")
	if err != nil || len(top) != 1 || len(below) == 0 {
		return 0, false, err
	}
	f := strings.Fields(top[0].params)
	same = len(f) == 4 && top[0].length == uint64(size)/sector && top[0].params == snapshotOf(number(under.dev), f[1]) &&
		boundTo(f[1], cow) && boundTo(strings.TrimSuffix(below[0].params, " 0"), image)
	return st.dev, same, nil
}

// own gives the device's node to uid. The kernel has made the node, and takes it
// away with the device.
func own(dev uint64, uid uint32) (string, error) {
	path := fmt.Sprintf("/dev/dm-%d", unix.Minor(dev))
	return path, fault.Do("own the node", func() error {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Rdev != dev {
			return fmt.Errorf("%s is not device %s", path, number(dev))
		}
		return unix.Lchown(path, int(uid), -1)
	})
}

// attached counts the user's disks.
func (h *Host) attached() (n int) {
	files, _ := filepath.Glob("/sys/block/dm-*/dm/uuid") // of a good pattern
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(b), h.prefix()) && !strings.HasSuffix(strings.TrimSpace(string(b)), origin) {
			n++
		}
	}
	return n
}

// Detach takes d down; what is gone already is no error. Busy while the device is
// open.
func (h *Host) Detach(d Disk) error {
	c, err := open()
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return nil // no device mapper, no devices
	}
	if err != nil {
		return err
	}
	defer c.Close()
	return h.detach(c, d)
}

// detach removes the snapshot, then what it is of; with the tables go the loop
// devices.
func (h *Host) detach(c *control, d Disk) error {
	var numbers []int
	for _, x := range []struct{ what, uuid string }{{"snapshot", h.uuid(d)}, {"origin", h.uuid(d) + origin}} {
		t, err := c.table(x.uuid)
		if err == nil {
			numbers = append(numbers, loopsOf(t)...)
			err = c.remove(x.what, x.uuid)
		}
		if err != nil && !errors.Is(err, unix.ENXIO) {
			return err
		}
	}
	return h.unbind(numbers)
}

// Fill tells how much of the copy-on-write file is used, and of how much, in
// bytes; WrongState when the snapshot has become worthless.
func (h *Host) Fill(d Disk) (used, total int64, err error) {
	c, err := open()
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	t, err := c.info(h.uuid(d))
	if errors.Is(err, unix.ENXIO) {
		return 0, 0, banger.Errorf(banger.NotFound, "the disk is not attached")
	}
	if err != nil || len(t) != 1 {
		return 0, 0, errors.Join(err, fmt.Errorf("a snapshot has one target, not %d", len(t)))
	}
	var meta int64
	if n, _ := fmt.Sscanf(t[0].params, "%d/%d %d", &used, &total, &meta); n < 2 {
		return 0, 0, banger.Errorf(banger.WrongState, "the root disk is lost: the kernel says %q of its snapshot", t[0].params).
			WithRemedy("the work disk is not touched; make the root disk new: banger vm reset %s", d.VM)
	}
	return used * sector, total * sector, nil
}
