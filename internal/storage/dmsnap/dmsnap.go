// Package dmsnap is the storage strategy of device-mapper snapshots: a VM's root
// disk is a block device over the base image, whose writes go to a sparse file
// beside the VM. banger-root makes the device; here the file is made, grown and
// removed, and what is attached is read from /sys.
package dmsnap

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/storage"
	"banger/internal/storage/diskfile"
)

var file = diskfile.File{What: "root disk", Name: "disk.cow"}

// leastRoom is what a new disk must find, bytes: it takes nothing, and a VM that is
// paused at its first write helps nobody.
const leastRoom = 1 << 20

// A Root is a connection to banger-root.
type Root interface {
	ProbeDisk(ctx context.Context, dir *os.File) error
	AttachDisk(ctx context.Context, tag string, vm banger.VMID, size int64, image, cow *os.File) (device string, err error)
	DetachDisk(ctx context.Context, tag string, vm banger.VMID) error
	DiskFill(ctx context.Context, tag string, vm banger.VMID) (used, total int64, err error)
	Close() error
}

// A Config is all that a Strategy works with.
type Config struct {
	Tag string // the installation's
	// Dial connects to banger-root; its error has code NeedsRoot if that does not run.
	Dial func(context.Context) (Root, error)
	// Wanted are the VMs that have a run, whose disks are somebody's. nil: nobody
	// knows, and what is left is an error at once.
	Wanted func(context.Context) ([]banger.VMID, error)
	Sys    string // where sysfs is; "" is /sys
	Log    *slog.Logger
}

// A Strategy has disks made by banger-root. Make one with New.
type Strategy struct {
	c  Config
	mu sync.Mutex // held while something is attached, or what is left is removed
}

var (
	_ storage.Strategy = (*Strategy)(nil)
	_ storage.Sizer    = (*Strategy)(nil)
	_ storage.Gauge    = (*Strategy)(nil)
)

// New returns the strategy of an installation.
func New(c Config) *Strategy {
	c.Sys = cmp.Or(c.Sys, "/sys")
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Strategy{c: c}
}

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
		r, derr := s.c.Dial(ctx)
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
	_, there := size(d)
	return file.Create(d, there, func(temp string) error {
		if err := errors.Join(ctx.Err(), diskfile.CheckNew(base, d)); err != nil {
			return err
		}
		if err := room(d.Dir); err != nil {
			return err
		}
		return hole(temp, length(d.Size))
	})
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
		return "", file.Broken(d, err)
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
		return "", file.Broken(d, err)
	}
	defer cow.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.ask(ctx, func(r Root) (err error) {
		device, err = r.AttachDisk(ctx, s.c.Tag, d.VM, bytes, image, cow)
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
// its way out, has it open. Where banger-root is not to be had it succeeds all the
// same: what is left is then Pending, and goes with the next Tend that finds it.
func (s *Strategy) Detach(ctx context.Context, d storage.Disk) error {
	wait := 20 * time.Millisecond
	for {
		if there, err := s.attached(d); err != nil || !there {
			return err
		}
		err := s.take(ctx, d.VM)
		switch {
		case err == nil:
			return nil
		case absent(err) && s.c.Wanted != nil:
			s.c.Log.Warn("a disk stays attached until banger-root runs again", "vm", d.VM, "err", err)
			return nil
		case banger.CodeOf(err) != banger.Busy:
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
	found, err := s.devices()
	return len(found[d.VM]) > 0, err
}

// Size implements storage.Sizer.
func (s *Strategy) Size(d storage.Disk) (int64, error) {
	n, err := size(d)
	if err != nil {
		return 0, file.Broken(d, err)
	}
	return n, nil
}

// Fill implements storage.Gauge.
func (s *Strategy) Fill(ctx context.Context, d storage.Disk) (used, total int64, err error) {
	err = s.ask(ctx, func(r Root) (err error) {
		used, total, err = r.DiskFill(ctx, s.c.Tag, d.VM)
		return err
	})
	return used, total, err
}

// Grow lengthens the file; the next Attach makes a longer device of it.
func (s *Strategy) Grow(ctx context.Context, _ storage.Base, d storage.Disk, bytes int64) error {
	n, err := s.Size(d)
	if err != nil {
		return err
	}
	return file.Grow(d, n, bytes, func() error {
		if err := s.detached(ctx, d); err != nil {
			return err
		}
		f, err := openOwn(d, os.O_RDWR)
		if err != nil {
			return err
		}
		return errors.Join(f.Truncate(length(bytes)), f.Sync(), f.Close())
	})
}

// Remove deletes the file. Where only banger-root is missing to have it detached, its
// room is free once that runs: the kernel has it open, without a name.
func (s *Strategy) Remove(ctx context.Context, d storage.Disk) error {
	if err := s.detached(ctx, d); err != nil && !absent(err) {
		return err
	}
	return file.Remove(d)
}

// detached removes what is left of a run that is over, and reports what is
// somebody's: Busy, or NeedsRoot where it cannot be removed now.
func (s *Strategy) detached(ctx context.Context, d storage.Disk) error {
	if there, err := s.attached(d); err != nil || !there {
		return err
	}
	if s.c.Wanted != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		left, err := s.left(ctx)
		if err != nil {
			return err
		}
		if len(left[d.VM]) > 0 {
			return s.take(ctx, d.VM)
		}
	}
	return banger.Errorf(banger.Busy, "the root disk of VM %s is attached", d.VM).WithRemedy("banger stop %s", d.VM)
}

// openOwn opens the file, which is the daemon's own even where the directory is
// the VM's: nobody else needs it.
func openOwn(d storage.Disk, flags int) (*os.File, error) {
	d.Owner = nil
	return diskfile.OpenOwn(file.Path(d), flags, d)
}
