package host

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"banger"
)

// OpenLog opens a log for appending and makes it if it is not there, mode 0600.
// With an owner the directory is that user's, who may have put anything there:
// only a file of his or our own that has no second name is taken and given to
// him, no link followed, no FIFO waited for.
func OpenLog(path string, o *banger.Owner) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	if err := giveLog(f, o); err != nil {
		return nil, errors.Join(fmt.Errorf("log %s: %w", path, err), f.Close())
	}
	return f, nil
}

// MakeLog makes a log that a process will open itself, as its own user.
func MakeLog(path string, o *banger.Owner) error {
	f, err := OpenLog(path, o)
	if err != nil {
		return err
	}
	return f.Close()
}

func giveLog(f *os.File, o *banger.Owner) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errors.New("not a regular file")
	}
	if o == nil || st.Uid == o.UID {
		return nil
	}
	if st.Nlink != 1 || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("neither the VM's nor ours (uid %d, %d names)", st.Uid, st.Nlink)
	}
	return f.Chown(int(o.UID), int(o.GID))
}

// oneName refuses what a VM's user may have put in a log's place: anything but a
// file, and a file that has another name elsewhere.
func oneName(path string, fi os.FileInfo) error {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && fi.Mode().IsRegular() && st.Nlink == 1 {
		return nil
	}
	return fmt.Errorf("%s is not a file of one name", path)
}

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
	if err := oneName(path, st); err != nil {
		return err
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
