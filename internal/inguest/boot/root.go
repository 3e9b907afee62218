package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// deviceLimit is how long a disk may take to appear. virtio-mmio finds its
// devices while the module loads, so this is long even for emulation.
const deviceLimit = 10 * time.Second

// A rootDisk is the mounted root disk.
type rootDisk struct {
	dir      string
	readOnly bool
	super    superblock
}

// mountRoot mounts the root disk, or says in plain words why not.
func mountRoot(device string) (rootDisk, error) {
	r := rootDisk{dir: "/newroot"}
	f, err := waitDevice(device, deviceLimit)
	if err != nil {
		return r, fmt.Errorf("root disk %s: %w", device, err)
	}
	defer f.Close()
	if r.super, err = readSuper(f); err != nil {
		return r, fmt.Errorf("root disk %s: %w", device, err)
	}
	root := fileSystem{device, r.dir, "ext4", unix.MS_RELATIME, ""}
	err = mount(root)
	// a write-protected disk: EACCES from the block layer, EROFS from ext4
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) {
		root.flags |= unix.MS_RDONLY
		r.readOnly = true
		err = mount(root)
	}
	if err != nil {
		return r, fmt.Errorf("root disk %s: %w", device, err)
	}
	return r, nil
}

// waitDevice opens device once it is there. devtmpfs gives no events that a
// program without udev could wait for, so it looks, briefly and often.
func waitDevice(device string, limit time.Duration) (*os.File, error) {
	for begin := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		f, err := os.Open(device)
		if err == nil {
			return f, nil
		}
		gone := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO)
		if !gone || time.Since(begin) > limit {
			return nil, err
		}
	}
}

// Where ext4 keeps what is read here (kernel: Documentation/filesystems/ext4).
const (
	superOffset = 1024
	superSize   = 1024
	superMagic  = 0xEF53
)

// A superblock is what of ext4's matters here.
type superblock struct {
	blocks    uint64
	blockSize uint64
	uuid      [16]byte
	device    uint64 // size of the device, bytes
}

// readSuper reads the superblock of a disk.
func readSuper(disk io.ReadSeeker) (superblock, error) {
	head := make([]byte, superOffset+superSize)
	if _, err := io.ReadFull(disk, head); err != nil {
		return superblock{}, err
	}
	sb, err := parseSuper(head)
	if err != nil {
		return superblock{}, err
	}
	size, err := disk.Seek(0, io.SeekEnd)
	sb.device = uint64(size)
	return sb, err
}

// errNotExt4 is a disk with something else on it.
var errNotExt4 = errors.New("it has no ext4 file system")

// parseSuper reads the superblock out of a disk's first 2 KiB.
func parseSuper(disk []byte) (superblock, error) {
	if len(disk) < superOffset+superSize {
		return superblock{}, errNotExt4
	}
	le, s := binary.LittleEndian, disk[superOffset:]
	if le.Uint16(s[0x38:]) != superMagic {
		return superblock{}, errNotExt4
	}
	log := le.Uint32(s[0x18:])
	if log > 6 { // 64 KiB, ext4's largest block
		return superblock{}, fmt.Errorf("%w: its superblock is damaged", errNotExt4)
	}
	sb := superblock{blocks: uint64(le.Uint32(s[0x4:])), blockSize: 1024 << log}
	copy(sb.uuid[:], s[0x68:])
	const incompat64bit = 0x80
	if le.Uint32(s[0x60:])&incompat64bit != 0 {
		sb.blocks |= uint64(le.Uint32(s[0x150:])) << 32
	}
	return sb, nil
}

// resizeFS is EXT4_IOC_RESIZE_FS, _IOW('f', 16, __u64): grows the mounted file
// system to so many blocks.
const resizeFS = 0x40086610

// grow makes the file system that is mounted on dir as large as its disk.
func (sb superblock) grow(dir string) error {
	blocks := sb.device / sb.blockSize
	if blocks <= sb.blocks {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), resizeFS, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		return fmt.Errorf("to %d blocks of %d bytes: %w", blocks, sb.blockSize, errno)
	}
	return nil
}
