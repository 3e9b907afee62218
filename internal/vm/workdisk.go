package vm

import (
	"context"
	"crypto/sha256"
	"fmt"

	"banger"
	"banger/internal/steps"
	"banger/internal/storage"
)

// WorkDisks makes the disks on which VMs have /root. Every method is idempotent;
// the disk's Size is that of the work disk.
type WorkDisks interface {
	Create(ctx context.Context, d storage.Disk, uuid string) error // made aside, then renamed; one that is there is success
	Attach(d storage.Disk) (path string, err error)                // what the VMM opens; NotFound when Create's file is gone
	Size(d storage.Disk) (int64, error)
	Grow(d storage.Disk) error // to Size; never shrinks
	Remove(d storage.Disk) error
}

const (
	minWorkDisk = 64 << 20 // ext4 with a journal, and some room
	maxWorkDisk = 8 << 40  // half of ext4's largest, so that it can have been made with room to grow
	workDiskBy  = 1 << 20  // its size is a multiple of this
)

// checkWorkDisk holds a size against the limits, and returns it rounded up.
func checkWorkDisk(n int64) (int64, error) {
	switch {
	case n < 0:
		return n, invalid("work disk must not be less than 0, as %d bytes is", n).WithRemedy("leave it out for the default, or give a size such as 8GiB; 0 is none")
	case n > maxWorkDisk:
		return n, invalid("work disk must be at most %s, not %s", banger.FormatSize(maxWorkDisk), banger.FormatSize(n)).
			WithRemedy("ask for less, such as --work-disk 100GiB: it can grow later")
	case n > 0 && n < minWorkDisk:
		return n, invalid("work disk must be at least %s, not %s", banger.FormatSize(minWorkDisk), banger.FormatSize(n)).
			WithRemedy("ask for more, such as --work-disk %s, or none: --work-disk 0", banger.FormatSize(minWorkDisk))
	}
	return (n + workDiskBy - 1) / workDiskBy * workDiskBy, nil
}

// newWorkDisk checks that a VM's work disk may become as large as n.
func newWorkDisk(s banger.Spec, n int64) (int64, error) {
	now, err := checkWorkDisk(n)
	switch {
	case err != nil:
		return n, err
	case now == s.WorkDisk:
		return now, nil
	case s.WorkDisk == 0:
		return n, banger.Errorf(banger.WrongState, "%s was made without a work disk", s.Name).
			WithRemedy("make a VM with one: banger vm create --work-disk %s", banger.FormatSize(now))
	case now == 0:
		return n, invalid("%s cannot lose its work disk: what is in its /root would be lost", s.Name).
			WithRemedy("make a VM without one: banger vm create --work-disk 0")
	case now < s.WorkDisk:
		return n, invalid("work disk of %s cannot shrink from %s to %s", s.Name, banger.FormatSize(s.WorkDisk), banger.FormatSize(now)).
			WithRemedy("make a VM with a smaller one: banger vm create --work-disk %s", banger.FormatSize(now))
	}
	return now, nil
}

// workDisk is the storage of the VM's /root.
func (s *subject) workDisk() storage.Disk {
	d := s.storageDisk()
	d.Size = s.rec.Spec.WorkDisk
	return d
}

// workUUID is that of the work disk's file system, by which the guest knows it.
// It follows from the machine ID, which is the VM's alone and for good, and which
// it does not give away (machine-id(5) asks for that): an RFC 9562 version 8.
func workUUID(l banger.Lease) string {
	h := sha256.Sum256([]byte("banger work disk\x00" + l.MachineID))
	u := h[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

func workDiskStep() steps.Step[*subject] {
	return steps.Step[*subject]{Name: "work disk", Ensure: ensureWorkDisk, Release: releaseWorkDisk}
}

func ensureWorkDisk(ctx context.Context, s *subject) error {
	if s.rec.Spec.WorkDisk == 0 {
		return nil
	}
	return s.m.c.WorkDisks.Create(ctx, s.workDisk(), workUUID(s.rec.Lease))
}

func releaseWorkDisk(_ context.Context, s *subject) error {
	return s.m.c.WorkDisks.Remove(s.workDisk())
}

// attachWorkDisk returns what the VMM opens, "" where the VM has none.
func (s *subject) attachWorkDisk() (string, error) {
	if s.rec.Spec.WorkDisk == 0 {
		return "", nil
	}
	return s.m.c.WorkDisks.Attach(s.workDisk())
}

// growWorkDisk makes the disk as large as it is recorded to be.
func growWorkDisk(s *subject) error {
	if s.rec.Spec.WorkDisk == 0 {
		return nil
	}
	return s.m.c.WorkDisks.Grow(s.workDisk())
}

// workDiskSize is the work disk's size, bytes; 0: it cannot be told.
func (s *subject) workDiskSize() int64 {
	size, err := s.m.c.WorkDisks.Size(s.workDisk())
	if err != nil {
		return 0
	}
	return size
}
