// Package workdisk makes the disks on which VMs have /root: a raw file each, which
// is sparse, with a blank ext4 file system. What is put on it, the guest does; the
// host mounts none and reads nothing of one.
package workdisk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"banger/internal/host"
	"banger/internal/storage"
	"banger/internal/storage/diskfile"
)

var file = diskfile.File{What: "work disk", Name: "work.img"}

// features are ext4's as guests' kernels from 4.14 on know them, spelled out so that
// they do not depend on the host's mke2fs.conf.
var features = []string{
	"none", "has_journal", "ext_attr", "resize_inode", "dir_index", "filetype", "extent", "64bit", "flex_bg",
	"sparse_super", "large_file", "huge_file", "dir_nlink", "extra_isize", "metadata_csum",
}

const (
	// growth is by how much a disk can grow before its kernel has to lay out its
	// descriptors anew. It is bought with 4 KiB for each 8 GiB; 1024 times the
	// size, mke2fs's own choice, allocates 4 MiB before anything is on the disk.
	growth = 512 << 30
	// journal is what mke2fs chooses for 16 GiB; for more, up to 1 GiB.
	journal = 64 << 20
	// smallest is the smallest disk that gets all of journal.
	smallest = 2 << 30
)

// Disks makes work disks with mke2fs. Make it with New.
//
// A VMM, and so perhaps its guest, has written to the files and to the directory
// they lie in: the daemon, which may be root, follows no link there.
type Disks struct {
	run host.Runner
}

// New returns Disks; run must know the tool mke2fs.
func New(run host.Runner) Disks { return Disks{run} }

// Probe finds mke2fs.
func (k Disks) Probe(ctx context.Context) error {
	_, err := k.run.Run(ctx, host.Cmd{Tool: "mke2fs", Args: []string{"-V"}})
	return err
}

// Create makes one that is not there. uuid becomes the file system's. It allocates less
// than 0.5 MiB for 8 GiB.
func (k Disks) Create(ctx context.Context, d storage.Disk, uuid string) error {
	f, there := open(d, os.O_RDONLY)
	if there == nil {
		return f.Close()
	}
	return file.Create(d, there, func(temp string) error { return k.make(ctx, temp, d, uuid) })
}

// make makes the file at temp and has the disk's owner make its file system.
func (k Disks) make(ctx context.Context, temp string, d storage.Disk, uuid string) (err error) {
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if d.Owner != nil {
		if err := f.Chown(int(d.Owner.UID), int(d.Owner.GID)); err != nil {
			return err
		}
	}
	if err := f.Truncate(d.Size); err != nil {
		return err
	}
	args := []string{
		"-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", "16384", "-m", "0",
		"-O", strings.Join(features, ","), "-U", uuid,
		// A new file reads as zeros: what is not written is as it should be.
		"-E", fmt.Sprintf("root_owner=0:0,nodiscard,lazy_itable_init=1,lazy_journal_init=1,resize=%dK", (d.Size+growth)>>10),
	}
	if d.Size >= smallest {
		args = append(args, "-J", "size="+strconv.Itoa(journal>>20))
	}
	args = append(args, "/proc/self/fd/3")
	if _, err := k.run.Run(ctx, host.Cmd{Tool: "mke2fs", Args: args, Files: []*os.File{f}, Owner: d.Owner}); err != nil {
		return err
	}
	return f.Sync()
}

// Attach has nothing to attach: it looks whether the file is there, and returns
// its path.
func (k Disks) Attach(d storage.Disk) (string, error) {
	f, err := open(d, os.O_RDONLY)
	if err != nil {
		return "", file.Broken(d, err)
	}
	return file.Path(d), f.Close()
}

// Size is the disk's size, bytes.
func (k Disks) Size(d storage.Disk) (size int64, err error) {
	f, err := open(d, os.O_RDONLY)
	if err != nil {
		return 0, file.Broken(d, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Grow makes the file as large as d says; the guest program grows the file system.
// A disk that is larger stays so.
func (k Disks) Grow(d storage.Disk) (err error) {
	f, err := open(d, os.O_RDWR)
	if err != nil {
		return file.Broken(d, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err == nil && st.Size() < d.Size {
		err = errors.Join(f.Truncate(d.Size), f.Sync())
	}
	if err != nil {
		return diskfile.Full(d.Dir, fmt.Errorf("grow work disk: %w", err))
	}
	return nil
}

// Remove deletes the file, and what a killed Create left of one.
func (k Disks) Remove(d storage.Disk) error { return file.Remove(d) }

func open(d storage.Disk, flags int) (*os.File, error) {
	return diskfile.OpenOwn(file.Path(d), flags, d)
}
