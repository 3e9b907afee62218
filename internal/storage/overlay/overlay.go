// Package overlay is the storage strategy that needs nothing of the host but
// qemu-img: a VM's root disk is a qcow2 file that holds what differs from the
// base image, which QEMU reads beneath it.
package overlay

import (
	"context"
	"fmt"
	"strconv"

	"banger"
	"banger/internal/host"
	"banger/internal/storage"
	"banger/internal/storage/diskfile"
)

var file = diskfile.File{What: "root disk", Name: "disk.qcow2"}

// A Strategy makes disks with qemu-img. Make one with New.
//
// A VMM, and so perhaps its guest, has written to the files and to the
// directory they lie in. Whatever interprets them runs as the disk's owner;
// the daemon itself, which may be root, follows no link there and reads only
// the header.
type Strategy struct {
	run host.Runner
}

var (
	_ storage.Strategy = (*Strategy)(nil)
	_ storage.Sizer    = (*Strategy)(nil)
)

// New returns the strategy; run must know the tool qemu-img.
func New(run host.Runner) *Strategy { return &Strategy{run: run} }

// Name is "overlay".
func (s *Strategy) Name() string { return "overlay" }

// Format is qcow2.
func (s *Strategy) Format() banger.DiskFormat { return banger.FormatQCOW2 }

// Probe finds qemu-img; every local file system will do.
func (s *Strategy) Probe(ctx context.Context, _ string) error {
	_, err := s.run.Run(ctx, host.Cmd{Tool: "qemu-img", Args: []string{"--version"}})
	return err
}

// Create allocates some 200 KiB.
func (s *Strategy) Create(ctx context.Context, base storage.Base, d storage.Disk) error {
	_, there := readHeader(file.Path(d))
	return file.Create(d, there, func(temp string) error {
		if err := diskfile.CheckNew(base, d); err != nil {
			return err
		}
		if err := s.qemuImg(ctx, d, "create", "-q", "-f", "qcow2", "-b", base.Path, "-F", "raw", temp, strconv.FormatInt(d.Size, 10)); err != nil {
			return err
		}
		return settle(temp, d)
	})
}

// Attach has nothing to attach: the VMM opens the file itself. When the state
// directory was moved, the name of the base in the file is set right first.
func (s *Strategy) Attach(ctx context.Context, base storage.Base, d storage.Disk) (string, error) {
	h, err := readHeader(file.Path(d))
	if err != nil {
		return "", file.Broken(d, err)
	}
	if err := diskfile.Present(base); err != nil {
		return "", err
	}
	if h.backing != base.Path {
		// -u: the name alone; the content is the same by its digest
		if err := s.qemuImg(ctx, d, "rebase", "-q", "-u", "-f", "qcow2", "-b", base.Path, "-F", "raw", file.Path(d)); err != nil {
			return "", fmt.Errorf("attach root disk: %w", diskfile.Full(d.Dir, err))
		}
	}
	return file.Path(d), nil
}

// Detach has nothing to do: the VMM that had the file open is gone.
func (s *Strategy) Detach(context.Context, storage.Disk) error { return nil }

// Size implements storage.Sizer.
func (s *Strategy) Size(d storage.Disk) (int64, error) {
	h, err := readHeader(file.Path(d))
	if err != nil {
		return 0, file.Broken(d, err)
	}
	return h.size, nil
}

// Grow changes the virtual size; the guest program grows the file system.
func (s *Strategy) Grow(ctx context.Context, _ storage.Base, d storage.Disk, bytes int64) error {
	n, err := s.Size(d)
	if err != nil {
		return err
	}
	return file.Grow(d, n, bytes, func() error {
		return s.qemuImg(ctx, d, "resize", "-q", "-f", "qcow2", file.Path(d), strconv.FormatInt(bytes, 10))
	})
}

// Remove deletes the file.
func (s *Strategy) Remove(_ context.Context, d storage.Disk) error { return file.Remove(d) }

func (s *Strategy) qemuImg(ctx context.Context, d storage.Disk, args ...string) error {
	_, err := s.run.Run(ctx, host.Cmd{Tool: "qemu-img", Args: args, Owner: d.Owner})
	return err
}
