package host

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// CutLog cuts a log that has grown beyond limit bytes down to about its last
// half limit. Its writer appends (O_APPEND) and goes on into the same file. On
// ext4 and xfs the beginning is collapsed and nothing is lost; elsewhere what
// is written in the instant of the cut may be.
// The file may be a guest's: no link is followed.
func CutLog(path string, limit int64) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil || st.Size() <= limit {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", path)
	}
	const block = 64 << 10 // a multiple of every file system's block size
	cut := (st.Size() - limit/2) / block * block
	if cut > 0 && unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 0, cut) == nil {
		return nil
	}
	keep := make([]byte, limit/2)
	n, err := f.ReadAt(keep, st.Size()-int64(len(keep)))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(keep[:n], 0)
	return err
}
