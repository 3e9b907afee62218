package firecracker

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// unixNoFollow opens what may be a guest's: no link is followed, no FIFO waited for.
const unixNoFollow = unix.O_NOFOLLOW | unix.O_NONBLOCK

// punch frees the beginning of a file of one name.
func punch(f *os.File, limit int64) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.Mode().IsRegular() || st.Nlink != 1 {
		return fmt.Errorf("%s is not a file of one name", f.Name())
	}
	const block = 64 << 10 // a multiple of every file system's block size
	end := (fi.Size() - limit/2) / block * block
	if st.Blocks*512 <= limit || end <= 0 {
		return nil
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, end); err != nil {
		return fmt.Errorf("cut %s: %w", f.Name(), err)
	}
	return nil
}
