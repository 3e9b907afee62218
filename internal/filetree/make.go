package filetree

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// file writes a file into the directory that was entered. One that is there is
// replaced, not written into: whoever has it open, or another link to it, keeps
// what it was.
func (u *unpacker) file(base string, h *tar.Header) (err error) {
	mode := os.FileMode(h.Mode & 0o777 &^ u.umask)
	f, err := u.create(base, mode)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil { // half of a file would be taken for all of it
			err = errors.Join(err, u.here.root.Remove(base))
		}
	}()
	if isSparse(h) {
		err = u.sparse(f, h.Size)
	} else {
		err = u.dense(f)
	}
	if err == nil && !u.born(f, mode, h) {
		err = u.attributes(f, h)
	}
	if err == nil {
		err = setTime(u.here.fd, base, h)
	}
	return err
}

// born says whether a file that was made with mode has the owner and the mode of
// h already: a change of either costs a transaction of the file system's, which
// is most of what a small file costs.
func (u *unpacker) born(f *os.File, mode os.FileMode, h *tar.Header) bool {
	st, err := f.Stat()
	if err != nil || uint32(st.Mode()) != u.mode(h) || st.Mode() != mode {
		return false
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && (!u.KeepOwner || int(sys.Uid) == u.uid(h) && int(sys.Gid) == u.gid(h))
}

func (u *unpacker) create(base string, mode os.FileMode) (*os.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := u.here.root.OpenFile(base, flags, mode)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	err = u.clear(base)
	if errors.Is(err, unix.EBUSY) { // a mount point, as a guest's /etc/hosts can be
		return u.here.root.OpenFile(base, os.O_WRONLY|os.O_TRUNC, 0)
	}
	if err != nil {
		return nil, err
	}
	return u.here.root.OpenFile(base, flags, mode)
}

// clear removes a file or a link. A directory stays, and so do devices, FIFOs and
// sockets: for those who use /dev/null nothing takes its place.
func (u *unpacker) clear(base string) error {
	st, err := u.here.root.Lstat(base)
	if err == nil && st.IsDir() {
		err = unix.EISDIR
	}
	if err == nil && st.Mode()&(fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket) != 0 {
		err = &fs.PathError{Op: "replace", Path: base, Err: errors.New("it is a device, a FIFO or a socket")}
	}
	if err == nil {
		err = u.here.root.Remove(base)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (u *unpacker) dense(f *os.File) error {
	for {
		n, err := u.tr.Read(u.buf)
		if n > 0 {
			if _, err := f.Write(u.buf[:n]); err != nil {
				return err
			}
			u.progress(int64(n))
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func isSparse(h *tar.Header) bool {
	return h.Typeflag == tar.TypeGNUSparse || h.PAXRecords["GNU.sparse.major"] != "" || h.PAXRecords["GNU.sparse.size"] != ""
}

// hole is the smallest that is left out, bytes.
const hole = 4 << 10

var noData [hole]byte

// maxSparse is the largest file that an ext4, and so a VM's disk, can have: 16
// TiB. A few bytes can claim exabytes, and somebody would wait for them.
const maxSparse = 16 << 40

// sparse writes a file whose stream says that it has holes; where they lie its
// zeros tell.
func (u *unpacker) sparse(f *os.File, size int64) error {
	if size > maxSparse {
		return unix.EFBIG
	}
	at := int64(0)
	for {
		n, err := io.ReadFull(u.tr, u.buf)
		for b := u.buf[:n]; len(b) > 0; {
			k := min(len(b), hole)
			if !bytes.Equal(b[:k], noData[:k]) {
				if _, err := f.WriteAt(b[:k], at); err != nil {
					return err
				}
			}
			at, b = at+int64(k), b[k:]
		}
		u.progress(int64(n))
		if err == io.EOF || err == io.ErrUnexpectedEOF && at == size {
			return f.Truncate(size)
		}
		if err != nil {
			return err
		}
	}
}

func (u *unpacker) symlink(base string, h *tar.Header) error {
	err := u.here.root.Symlink(h.Linkname, base)
	if errors.Is(err, fs.ErrExist) {
		if err = u.clear(base); err == nil {
			err = u.here.root.Symlink(h.Linkname, base)
		}
	}
	if err == nil && u.KeepOwner {
		err = u.here.root.Lchown(base, u.uid(h), u.gid(h))
	}
	if err == nil {
		err = setTime(u.here.fd, base, h)
	}
	return err
}

// link makes another name of a file that the stream had before. Both lie below
// the root.
func (u *unpacker) link(base string, h *tar.Header) error {
	from, to := path.Clean(h.Linkname), path.Join(u.here.path, base)
	if !filepath.IsLocal(from) {
		return errors.New("a link that leads out of the place that it is copied to")
	}
	if from == to {
		return nil
	}
	err := u.root.Link(from, to)
	if errors.Is(err, fs.ErrExist) {
		if err = u.clear(base); err == nil {
			err = u.root.Link(from, to)
		}
	}
	return err
}

func (u *unpacker) uid(h *tar.Header) int { uid, _ := u.owner(h.Uid, h.Gid); return uid }
func (u *unpacker) gid(h *tar.Header) int { _, gid := u.owner(h.Uid, h.Gid); return gid }

func (u *unpacker) mode(h *tar.Header) uint32 {
	if u.Foreign {
		return uint32(h.Mode & 0o777)
	}
	return uint32(h.Mode & 0o7777)
}

// attributes gives f its owner, then its mode, which a change of owner cuts.
func (u *unpacker) attributes(f *os.File, h *tar.Header) error {
	mode := u.mode(h)
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		if u.KeepOwner {
			failed = unix.Fchown(int(fd), u.uid(h), u.gid(h))
		}
		if failed == nil {
			failed = unix.Fchmod(int(fd), mode)
		}
	})
	return errors.Join(err, failed)
}

// setTime sets the modification time of base in a directory, links not followed.
func setTime(dir *os.File, base string, h *tar.Header) error {
	mtime, err := unix.TimeToTimespec(h.ModTime)
	if err != nil {
		return nil // a time that this system cannot say stays now
	}
	conn, err := dir.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime}
		failed = unix.UtimesNanoAt(int(fd), base, times, unix.AT_SYMLINK_NOFOLLOW)
	})
	return errors.Join(err, failed)
}
