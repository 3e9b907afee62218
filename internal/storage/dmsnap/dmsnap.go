// Package dmsnap is the storage strategy of device-mapper snapshots: a VM's root
// disk is a block device over the base image, whose writes go to a sparse file
// beside the VM. banger-root makes the device; here the file is made, grown and
// removed, and what is attached is read from /sys.
package dmsnap

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/storage"
	"banger/internal/storage/diskfile"
)

const (
	fileName   = "disk.cow"
	tempPrefix = "disk.cow.tmp-"
	// leastRoom is what a new disk must find, bytes: it takes nothing, and a VM
	// that is paused at its first write helps nobody.
	leastRoom = 1 << 20
)

// A Root is a connection to banger-root.
type Root interface {
	ProbeDisk(ctx context.Context, dir *os.File) error
	AttachDisk(ctx context.Context, tag string, vm banger.VMID, size int64, image, cow *os.File) (device string, err error)
	DetachDisk(ctx context.Context, tag string, vm banger.VMID) error
	DiskFill(ctx context.Context, tag string, vm banger.VMID) (used, total int64, err error)
	Close() error
}

// A Strategy has disks made by banger-root. Make one with New.
type Strategy struct {
	tag  string
	dial func(context.Context) (Root, error)
}

var (
	_ storage.Strategy = (*Strategy)(nil)
	_ storage.Sizer    = (*Strategy)(nil)
	_ storage.Gauge    = (*Strategy)(nil)
)

// New returns the strategy of the installation tag. dial connects to banger-root;
// its error has code NeedsRoot if that does not run.
func New(tag string, dial func(context.Context) (Root, error)) *Strategy { return &Strategy{tag, dial} }

// Name is "dmsnap".
func (s *Strategy) Name() string { return "dmsnap" }

// Format is raw.
func (s *Strategy) Format() banger.DiskFormat { return banger.FormatRaw }

// Probe looks for the device mapper, then asks banger-root.
func (s *Strategy) Probe(ctx context.Context, dir string) error {
	if !mapper() {
		return banger.Errorf(banger.HostUnready, "this host's kernel has no device-mapper snapshots").
			WithRemedy("install a kernel that has them, such as linux-image-amd64 and not the cloud flavour; without them banger makes other disks")
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.ask(ctx, func(r Root) error { return r.ProbeDisk(ctx, f) })
}

// mapper reports whether the kernel has the device mapper, or a module for
// snapshots that banger-root can have loaded. Its node says nothing: udev makes it
// whether there is one or not, and root alone may open it.
func mapper() bool {
	misc, _ := os.ReadFile("/proc/misc")
	if bytes.Contains(misc, []byte(" device-mapper\n")) {
		return true
	}
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	dep, _ := os.ReadFile("/lib/modules/" + unix.ByteSliceToString(u.Release[:]) + "/modules.dep")
	return bytes.Contains(dep, []byte("/dm-snapshot.ko"))
}

// asks is how often a banger-root is asked that dies over it, or has died unseen.
const asks = 3

func (s *Strategy) ask(ctx context.Context, what func(Root) error) (err error) {
	for range asks {
		r, derr := s.dial(ctx)
		if derr != nil {
			return derr
		}
		err = errors.Join(what(r), r.Close())
		if banger.CodeOf(err) != banger.NeedsRoot || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// Create makes a file that is one hole.
func (s *Strategy) Create(ctx context.Context, base storage.Base, d storage.Disk) error {
	switch _, err := size(d); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return diskfile.Broken(d, path(d), err)
	}
	if err := errors.Join(ctx.Err(), diskfile.CheckNew(base, d)); err != nil {
		return err
	}
	if err := diskfile.Sweep(d.Dir, tempPrefix); err != nil {
		return fmt.Errorf("create root disk: %w", err)
	}
	temp := filepath.Join(d.Dir, tempPrefix+rand.Text())
	err := room(d.Dir)
	if err == nil {
		err = hole(temp, length(d.Size))
	}
	if err == nil {
		err = os.Rename(temp, path(d))
	}
	if err == nil {
		err = diskfile.SyncDir(d.Dir)
	}
	if err != nil {
		return errors.Join(diskfile.Full(d.Dir, fmt.Errorf("create root disk: %w", err)), diskfile.Remove(temp))
	}
	return nil
}

func room(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	if int64(st.Bavail)*st.Bsize < leastRoom {
		return unix.ENOSPC
	}
	return nil
}

func hole(name string, bytes int64) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(bytes), f.Sync(), f.Close())
}

// Attach has banger-root make the device. It is the VM's own user's from then on.
func (s *Strategy) Attach(ctx context.Context, base storage.Base, d storage.Disk) (device string, err error) {
	bytes, err := size(d)
	if err != nil {
		return "", diskfile.Broken(d, path(d), err)
	}
	if err := diskfile.Present(base); err != nil {
		return "", err
	}
	image, err := os.Open(base.Path)
	if err != nil {
		return "", fmt.Errorf("attach root disk: %w", err)
	}
	defer image.Close()
	cow, err := openOwn(d, os.O_RDWR)
	if err != nil {
		return "", diskfile.Broken(d, path(d), err)
	}
	defer cow.Close()
	err = s.ask(ctx, func(r Root) (err error) {
		device, err = r.AttachDisk(ctx, s.tag, d.VM, bytes, image, cow)
		return err
	})
	if err == nil && d.Owner != nil {
		err = os.Chown(device, int(d.Owner.UID), -1)
	}
	if err != nil {
		return "", fmt.Errorf("attach root disk: %w", err)
	}
	return device, nil
}

// Detach has the device removed, and asks again while somebody, such as a VMM on
// its way out, has it open.
func (s *Strategy) Detach(ctx context.Context, d storage.Disk) error {
	wait := 20 * time.Millisecond
	for {
		if there, err := s.attached(d); err != nil || !there {
			return err
		}
		err := s.ask(ctx, func(r Root) error { return r.DetachDisk(ctx, s.tag, d.VM) })
		if err == nil {
			return nil
		}
		if banger.CodeOf(err) != banger.Busy {
			return fmt.Errorf("detach root disk: %w", err)
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, time.Second)
		case <-ctx.Done():
			return fmt.Errorf("detach root disk: %w", err)
		}
	}
}

// attached reports whether anything of d is: the device, or what is below it.
func (s *Strategy) attached(d storage.Disk) (bool, error) {
	uuid := fmt.Sprintf("BANGER-%d-%s-%s", os.Geteuid(), s.tag, d.VM) // of package blockdev
	files, err := filepath.Glob("/sys/block/dm-*/dm/uuid")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it went meanwhile
		}
		if got := strings.TrimSpace(string(b)); got == uuid || strings.HasPrefix(got, uuid+"-") {
			return true, nil
		}
	}
	return false, err
}

// Size implements storage.Sizer.
func (s *Strategy) Size(d storage.Disk) (int64, error) {
	n, err := size(d)
	if err != nil {
		return 0, diskfile.Broken(d, path(d), err)
	}
	return n, nil
}

// Fill implements storage.Gauge.
func (s *Strategy) Fill(ctx context.Context, d storage.Disk) (used, total int64, err error) {
	err = s.ask(ctx, func(r Root) (err error) {
		used, total, err = r.DiskFill(ctx, s.tag, d.VM)
		return err
	})
	return used, total, err
}

// Grow lengthens the file; the next Attach makes a longer device of it.
func (s *Strategy) Grow(_ context.Context, _ storage.Base, d storage.Disk, bytes int64) error {
	n, err := size(d)
	if err != nil {
		return diskfile.Broken(d, path(d), err)
	}
	if grow, err := diskfile.CheckGrow(n, bytes); err != nil || !grow {
		return err
	}
	if err := s.detached(d); err != nil {
		return err
	}
	f, err := openOwn(d, os.O_RDWR)
	if err != nil {
		return diskfile.Broken(d, path(d), err)
	}
	if err := errors.Join(f.Truncate(length(bytes)), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("grow root disk: %w", diskfile.Full(d.Dir, err))
	}
	return nil
}

// Remove deletes the file, and what a killed Create left of one. What the kernel
// has open would live on without a name.
func (s *Strategy) Remove(_ context.Context, d storage.Disk) error {
	if err := s.detached(d); err != nil {
		return err
	}
	if err := errors.Join(diskfile.Remove(path(d)), diskfile.Sweep(d.Dir, tempPrefix)); err != nil {
		return fmt.Errorf("remove root disk: %w", err)
	}
	return nil
}

func (s *Strategy) detached(d storage.Disk) error {
	if there, err := s.attached(d); err != nil || !there {
		return err
	}
	return banger.Errorf(banger.Busy, "the root disk of VM %s is attached", d.VM).WithRemedy("banger stop %s", d.VM)
}

func path(d storage.Disk) string { return filepath.Join(d.Dir, fileName) }

// openOwn opens the file, which is the daemon's own even where the directory is
// the VM's: nobody else needs it.
func openOwn(d storage.Disk, flags int) (*os.File, error) {
	d.Owner = nil
	return diskfile.OpenOwn(path(d), flags, d)
}
