package blockdev

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/fault"
)

// A control is the open /dev/mapper/control (linux/dm-ioctl.h).
type control struct{ *os.File }

func open() (*control, error) {
	f, err := os.OpenFile("/dev/"+unix.DM_DIR+"/"+unix.DM_CONTROL_NODE, os.O_RDWR, 0)
	if err != nil {
		return nil, absent(err)
	}
	return &control{f}, nil
}

// A target is one line of a table, in sectors.
type target struct {
	start, length uint64
	kind, params  string
}

// A status is what the kernel says of a device.
type status struct {
	dev    uint64
	active bool // it has a table, and is not suspended
}

// What udev is told with every change (DM_UDEV_* of libdevmapper.h), in the upper
// half of the event number: leave it alone, but for the link in /dev/mapper; and
// that these flags are to be believed.
const udevFlags = (0x02 | 0x04 | 0x08 | 0x40) << 16 // no rules of subsystems, disks, others; primary source

const bufSize = 16 << 10

// call does one ioctl. h says which device it is about; the answer's header
// replaces it.
func (c *control) call(cmd uintptr, h *unix.DmIoctl, payload []byte) ([]byte, error) {
	h.Version = [3]uint32{unix.DM_VERSION_MAJOR}
	h.Data_size, h.Data_start = bufSize, unix.SizeofDmIoctl
	b, err := binary.Append(nil, binary.NativeEndian, h)
	if err != nil || len(b) != unix.SizeofDmIoctl || len(b)+len(payload) > bufSize {
		return nil, fmt.Errorf("a request of %d and %d bytes: %w", len(b), len(payload), err)
	}
	b = append(b, payload...)
	b = append(b, make([]byte, bufSize-len(b))...)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, c.Fd(), cmd, uintptr(unsafe.Pointer(&b[0]))); errno != 0 {
		return nil, errno
	}
	if err := binary.Read(bytes.NewReader(b), binary.NativeEndian, h); err != nil {
		return nil, err
	}
	if h.Flags&unix.DM_BUFFER_FULL_FLAG != 0 || h.Data_start > bufSize {
		return nil, errors.New("an answer of the device mapper that is too long")
	}
	return b[h.Data_start:], nil
}

// about is a request about the device of that UUID or, without one, that name.
func about(uuid, name string, flags uint32) *unix.DmIoctl {
	h := &unix.DmIoctl{Flags: flags}
	copy(h.Uuid[:len(h.Uuid)-1], uuid)
	copy(h.Name[:len(h.Name)-1], name)
	return h
}

// probe reports why there can be no snapshots. It loads their module.
func (c *control) probe() error {
	_, err := c.call(unix.DM_VERSION, &unix.DmIoctl{}, nil)
	if err == nil {
		_, err = c.call(unix.DM_GET_TARGET_VERSION, about("", "snapshot", 0), nil)
	}
	if errors.Is(err, unix.ENOTTY) {
		return nil // before Linux 5.5 loading a table tells
	}
	return err
}

// make creates a device with a table, and returns its number. What is begun is
// the caller's to remove.
func (c *control) make(what, name, uuid string, flags uint32, t []target) (dev uint64, err error) {
	err = fault.Do("create the "+what, func() error { _, err := c.call(unix.DM_DEV_CREATE, about(uuid, name, 0), nil); return err })
	if err != nil {
		return 0, err
	}
	err = fault.Do("load the "+what, func() error {
		h := about(uuid, "", flags)
		h.Target_count = uint32(len(t))
		_, err := c.call(unix.DM_TABLE_LOAD, h, encode(t))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("%w (table %v)", err, t)
	}
	h := about(uuid, "", 0)
	h.Event_nr = udevFlags
	err = fault.Do("resume the "+what, func() error { _, err := c.call(unix.DM_DEV_SUSPEND, h, nil); return err })
	if err != nil {
		return 0, err
	}
	// What was loaded is what was meant: a snapshot takes the size of its chunks
	// from the file.
	got, err := c.table(uuid)
	if err == nil && fmt.Sprint(got) != fmt.Sprint(t) {
		err = fmt.Errorf("the table of the %s is %v, not %v", what, got, t)
	}
	return h.Dev, err
}

// status asks about a device, by UUID or by name; ENXIO if there is none.
func (c *control) status(uuid, name string) (s status, err error) {
	h := about(uuid, name, 0)
	err = fault.Do("status", func() error { _, err := c.call(unix.DM_DEV_STATUS, h, nil); return err })
	return status{h.Dev, h.Flags&unix.DM_ACTIVE_PRESENT_FLAG != 0 && h.Flags&unix.DM_SUSPEND_FLAG == 0}, err
}

// table is the device's table; empty where none is loaded.
func (c *control) table(uuid string) ([]target, error) {
	return c.targets("table", uuid, unix.DM_STATUS_TABLE_FLAG)
}

// info is what each target says of its state.
func (c *control) info(uuid string) ([]target, error) {
	return c.targets("state", uuid, unix.DM_NOFLUSH_FLAG)
}

func (c *control) targets(what, uuid string, flags uint32) (t []target, err error) {
	err = fault.Do(what, func() error {
		h := about(uuid, "", flags)
		b, err := c.call(unix.DM_TABLE_STATUS, h, nil)
		if err == nil {
			t, err = decode(b, h.Target_count)
		}
		return err
	})
	return t, err
}

// remove removes a device; Busy while somebody has it open.
func (c *control) remove(what, uuid string) error {
	h := about(uuid, "", 0)
	h.Event_nr = udevFlags
	err := fault.Do("remove the "+what, func() error {
		return retry(func() error { _, err := c.call(unix.DM_DEV_REMOVE, h, nil); return err })
	})
	if errors.Is(err, unix.EBUSY) {
		return banger.Errorf(banger.Busy, "%w", err).WithRemedy("see who has it open: sudo lsof /dev/mapper/banger-*")
	}
	return err
}

func encode(t []target) (b []byte) {
	for _, x := range t {
		params := append([]byte(x.params), make([]byte, 8-len(x.params)%8)...) // ends with 0, aligned
		s := unix.DmTargetSpec{Sector_start: x.start, Length: x.length, Next: unix.SizeofDmTargetSpec + uint32(len(params))}
		copy(s.Target_type[:len(s.Target_type)-1], x.kind)
		b, _ = binary.Append(b, binary.NativeEndian, s) // of a fixed size
		b = append(b, params...)
	}
	return b
}

// decode reads the answer to DM_TABLE_STATUS: next counts from its beginning.
func decode(b []byte, n uint32) (t []target, err error) {
	for at := uint32(0); n > 0; n-- {
		var s unix.DmTargetSpec
		if int(at)+unix.SizeofDmTargetSpec > len(b) {
			return nil, errors.New("a table that is cut off")
		}
		if err := binary.Read(bytes.NewReader(b[at:]), binary.NativeEndian, &s); err != nil {
			return nil, err
		}
		t = append(t, target{s.Sector_start, s.Length, unix.ByteSliceToString(s.Target_type[:]), unix.ByteSliceToString(b[at+unix.SizeofDmTargetSpec:])})
		at = s.Next
	}
	return t, nil
}
