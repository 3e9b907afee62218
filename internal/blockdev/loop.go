package blockdev

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/fault"
)

const (
	loopControl = "/dev/loop-control"
	// Loop devices of banger's have numbers of their own, by which udev knows
	// them before it looks at what is in them.
	firstLoop = 40000
	lastLoop  = 49999
)

// A loop is a loop device, bound to a file for as long as it is open here or a
// table holds it.
type loop struct {
	*os.File
	dev     uint64
	sectors uint64
}

func (l loop) String() string { return number(l.dev) }

// number is a device as tables write it.
func number(dev uint64) string { return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)) }

// bind makes a loop device of each file. Those that it made are returned with an
// error, too, and are the caller's to close.
func (h *Host) bind(image, cow *os.File) (loops []loop, err error) {
	unlock, err := h.alone()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := fault.Do("write udev's rule", h.hide); err != nil {
		return nil, err
	}
	ctl, err := os.OpenFile(loopControl, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer ctl.Close()
	for _, f := range []struct {
		what string
		*os.File
		flags uint32
	}{{"image", image, unix.LO_FLAGS_READ_ONLY}, {"copy-on-write file", cow, 0}} {
		l, err := bind(ctl, f.what, f.File, f.flags|unix.LO_FLAGS_AUTOCLEAR)
		if err != nil {
			return loops, err
		}
		loops = append(loops, l)
	}
	return loops, nil
}

// alone holds off the banger-roots of other users.
func (h *Host) alone() (unlock func(), err error) {
	f, err := os.Open(h.lock)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

func bind(ctl *os.File, what string, f *os.File, flags uint32) (loop, error) {
	for n := firstLoop; n <= lastLoop; n++ {
		// One that nobody has bound any more, as after a kill, is made anew.
		_ = unix.IoctlSetInt(int(ctl.Fd()), unix.LOOP_CTL_REMOVE, n)
		err := unix.IoctlSetInt(int(ctl.Fd()), unix.LOOP_CTL_ADD, n)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return loop{}, fmt.Errorf("add a loop device: %w", err)
		}
		return configure(n, what, f, flags)
	}
	return loop{}, banger.Errorf(banger.HostUnready, "no loop device is free").WithRemedy("stop some VMs; see: losetup -a")
}

func configure(n int, what string, f *os.File, flags uint32) (l loop, err error) {
	dev, err := os.OpenFile(loopPath(n), os.O_RDWR, 0)
	if err != nil {
		return loop{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, dev.Close())
		}
	}()
	fi, err := f.Stat()
	if err != nil {
		return loop{}, err
	}
	cfg := unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{Flags: flags, Sizelimit: uint64(fi.Size())}}
	err = fault.Do("configure the loop of the "+what, func() error { return unix.IoctlLoopConfigure(int(dev.Fd()), &cfg) })
	if err != nil {
		return loop{}, err
	}
	var size int64
	err = fault.Do("size of the loop of the "+what, func() (err error) { size, err = dev.Seek(0, io.SeekEnd); return err })
	if err == nil && size != fi.Size() {
		err = fmt.Errorf("the %s has %d bytes, and its loop device %d", what, fi.Size(), size)
	}
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(int(dev.Fd()), &st)
	}
	return loop{dev, st.Rdev, uint64(size) / sector}, err
}

func loopPath(n int) string { return fmt.Sprintf("/dev/loop%d", n) }

// loopNumber is that of the loop device that a table writes as MAJOR:MINOR.
func loopNumber(dev string) (int, bool) {
	to, err := os.Readlink("/sys/dev/block/" + dev)
	s, ok := strings.CutPrefix(filepath.Base(to), "loop")
	n, nerr := strconv.Atoi(s)
	return n, err == nil && ok && nerr == nil
}

// boundTo reports whether that device is a loop device bound to f.
func boundTo(dev string, f *os.File) bool {
	n, ok := loopNumber(dev)
	if !ok {
		return false
	}
	l, err := os.Open(loopPath(n))
	if err != nil {
		return false
	}
	defer l.Close()
	info, err := unix.IoctlLoopGetStatus64(int(l.Fd()))
	var st unix.Stat_t
	return err == nil && unix.Fstat(int(f.Fd()), &st) == nil && info.Device == st.Dev && info.Inode == st.Ino
}

// loopsOf are the numbers of the loop devices of banger's in a table.
func loopsOf(t []target) (all []int) {
	for _, x := range t {
		for _, f := range strings.Fields(x.params) {
			if n, ok := loopNumber(f); ok && n >= firstLoop && n <= lastLoop {
				all = append(all, n)
			}
		}
	}
	return all
}

// unbind waits until the loop devices that a table held are gone: the kernel
// clears them a moment later, and whoever looks into one holds it. With them go
// those that nobody has bound, as a kill leaves them.
func (h *Host) unbind(numbers []int) error {
	unlock, err := h.alone()
	if err != nil {
		return err
	}
	defer unlock()
	if ctl, err := os.OpenFile(loopControl, os.O_RDWR, 0); err == nil {
		defer ctl.Close()
		for _, n := range loops() {
			if slices.Contains(numbers, n) || !isBound(n) {
				_ = retry(func() error { return unix.IoctlSetInt(int(ctl.Fd()), unix.LOOP_CTL_REMOVE, n) })
			}
		}
	}
	if slices.ContainsFunc(loops(), isBound) {
		return nil
	}
	return h.unhide()
}

// loops are the numbers of banger's loop devices, bound or not.
func loops() (all []int) {
	paths, _ := filepath.Glob("/sys/block/loop4[0-9][0-9][0-9][0-9]") // of a good pattern
	for _, p := range paths {
		if n, err := strconv.Atoi(p[len("/sys/block/loop"):]); err == nil {
			all = append(all, n)
		}
	}
	return all
}

func isBound(n int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/sys/block/loop%d/loop/backing_file", n))
	return err == nil && len(b) > 0
}

// retry does f again while it is busy, up to half a second in all: udev looks at
// new devices, and a VMM that was killed takes a moment to let go. The daemon
// asks again where this was too short.
func retry(f func() error) (err error) {
	for wait := time.Millisecond; wait < 300*time.Millisecond; wait *= 2 {
		if err = f(); !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(wait)
	}
	return err
}
