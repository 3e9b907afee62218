package blockdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"banger"
)

// check reports why these files do not make a disk of size bytes; Invalid.
func (h *Host) check(size int64, image, cow *os.File) error {
	i, err := checkFile(image, unix.O_RDONLY)
	if err == nil && (i.Size < sector || i.Size > size || i.Size%sector != 0) {
		err = fmt.Errorf("it has %d bytes, not whole sectors and at most the %d of the disk", i.Size, size)
	}
	if err != nil {
		return refused("the image", err)
	}
	c, err := checkFile(cow, unix.O_RDWR)
	switch {
	case err != nil:
	case c.Uid != h.uid:
		err = fmt.Errorf("it is uid %d's", c.Uid)
	case c.Size < 4*chunk*sector || c.Size > 2*MaxSize || c.Size%sector != 0:
		err = fmt.Errorf("it has %d bytes, not whole sectors and enough for a header", c.Size)
	case c.Dev == i.Dev && c.Ino == i.Ino:
		err = errors.New("it is the image")
	default:
		err = checkHeader(cow)
	}
	if err != nil {
		return refused("the copy-on-write file", err)
	}
	if size%sector != 0 || size > MaxSize {
		return banger.Errorf(banger.Invalid, "a disk has whole sectors and at most %d bytes, not %d", int64(MaxSize), size)
	}
	return nil
}

func refused(what string, err error) error {
	return banger.Errorf(banger.Invalid, "%s is not used: %w", what, err)
}

// checkFile reports why f is no regular file with a name, opened as mode says, on
// a file system on which a loop device cannot wait for a process.
func checkFile(f *os.File, mode int) (st unix.Stat_t, err error) {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &st)
	}
	switch {
	case err != nil:
	case flags&(unix.O_PATH|unix.O_APPEND) != 0 || flags&unix.O_ACCMODE != mode:
		err = fmt.Errorf("it is opened with flags %#o", flags)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = fmt.Errorf("it is no regular file (mode %#o)", st.Mode)
	case st.Nlink == 0:
		err = errors.New("it has no name any more")
	default:
		err = checkFS(f)
	}
	return st, err
}

// checkFS knows the file systems on whose files the kernel alone decides: none
// that a user's process or another machine answers for (FUSE, networks), none
// that makes its files up (proc), none that is stacked.
func checkFS(f *os.File) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	switch uint32(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return nil
	}
	return banger.Errorf(banger.HostUnready, "the file system (type %#x) is not ext4, xfs, btrfs, f2fs or tmpfs", uint32(st.Type)).
		WithRemedy("keep banger's state on one of them: BANGER_STATE_DIR=DIR")
}

// checkHeader looks at what dm-snapshot will read first: it takes the size of
// its chunks from there, and allocates three of them. The user may write another
// one afterwards, which the table that is read back gives away.
func checkHeader(cow *os.File) error {
	const magic = 0x70416e53 // "SnAp"; valid, version, chunk size follow (dm-snap-persistent.c)
	var b [16]byte
	if _, err := cow.ReadAt(b[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	le := binary.LittleEndian
	if b == [16]byte{} || le.Uint32(b[:]) == magic && le.Uint32(b[4:]) <= 1 && le.Uint32(b[8:]) == 1 && le.Uint32(b[12:]) == chunk {
		return nil
	}
	return fmt.Errorf("it begins with % x, which no snapshot of banger's does", b)
}
