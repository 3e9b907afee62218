package filetree

import (
	"archive/tar"
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bufferSize is what content is read and written in, bytes.
const bufferSize = 256 << 10

// Pack writes what lies at src to w as a tar stream in which it is called name,
// and what lies below it name/…; name "." stands for no name. A src that is a
// symbolic link is followed, links below it are kept. What cannot be read is
// told to o.Problem and left out; an error means that the stream is of no use.
func Pack(w io.Writer, src, name string, o Options) error {
	st, err := os.Stat(src)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, bufferSize)
	p := &packer{Options: o, out: out, tw: tar.NewWriter(out), buf: make([]byte, bufferSize), links: map[inode]string{}}
	if !st.IsDir() && !st.Mode().IsRegular() {
		return &fs.PathError{Op: "copy", Path: src, Err: errors.New("neither a file nor a directory")}
	}
	f, err := os.Open(src) // what is wrong below is a problem, here it is all
	if err != nil {
		return err
	}
	f.Close()
	if st.IsDir() {
		err = p.dir(src, name, 0)
	} else {
		err = p.file(src, name, unix.O_RDONLY)
	}
	if err == nil {
		err = p.tw.Close()
	}
	if err == nil {
		err = out.Flush()
	}
	return err
}

type inode struct{ dev, ino uint64 }

// A packer writes one stream. Its methods fail when the stream cannot be
// written, and tell of a file that cannot be read.
type packer struct {
	Options
	out   *bufio.Writer
	tw    *tar.Writer
	buf   []byte
	links map[inode]string // names of files that have more than one
}

// dir packs a directory; dev is the device of the one above it, 0 at the top.
func (p *packer) dir(path, name string, dev uint64) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		p.problem(path, err)
		return nil
	}
	if dev != 0 && st.Dev != dev && ofKernel(path) {
		p.problem(path, leftOut("a file system of the kernel's"))
		return nil
	}
	// Sorted, so that a copy is the same each time.
	entries, err := os.ReadDir(path)
	if err != nil {
		p.problem(path, reason(err))
		if len(entries) == 0 {
			return nil
		}
	}
	if err := p.tw.WriteHeader(p.header(tar.TypeDir, name+"/", &st)); err != nil {
		return err
	}
	for _, e := range entries {
		if err := p.entry(filepath.Join(path, e.Name()), name+"/"+e.Name(), e.Type(), st.Dev); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) entry(path, name string, kind fs.FileMode, dev uint64) error {
	switch kind {
	case fs.ModeDir:
		return p.dir(path, name, dev)
	case 0:
		return p.file(path, name, unix.O_RDONLY|unix.O_NOFOLLOW)
	case fs.ModeSymlink:
		return p.symlink(path, name)
	case fs.ModeNamedPipe:
		p.problem(path, leftOut("a FIFO"))
	case fs.ModeSocket:
		p.problem(path, leftOut("a socket"))
	default:
		p.problem(path, leftOut("a device"))
	}
	return nil
}

func (p *packer) symlink(path, name string) error {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	var to string
	if err == nil {
		to, err = os.Readlink(path)
	}
	if err != nil {
		p.problem(path, reason(err))
		return nil
	}
	h := p.header(tar.TypeSymlink, name, &st)
	h.Linkname = to
	return p.tw.WriteHeader(h)
}

// file packs a regular file. Not through os.File, which asks the poller about
// each: with ten thousand of them in an emulated guest that is felt.
func (p *packer) file(path, name string, flags int) error {
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	})
	if err != nil {
		p.problem(path, err)
		return nil
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		p.problem(path, err)
		return nil
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG { // it was one a moment ago
		p.problem(path, leftOut("no file any more"))
		return nil
	}
	if st.Nlink > 1 {
		at := inode{uint64(st.Dev), st.Ino}
		if first, ok := p.links[at]; ok {
			h := p.header(tar.TypeLink, name, &st)
			h.Linkname, h.Size = first, 0
			return p.tw.WriteHeader(h)
		}
		p.links[at] = name
	}
	if st.Blocks*512 < st.Size {
		if data := extents(fd, st.Size); holes(data, st.Size) {
			return p.sparse(fd, path, name, &st, data)
		}
	}
	if err := p.tw.WriteHeader(p.header(tar.TypeReg, name, &st)); err != nil {
		return err
	}
	return p.content(p.tw, fd, path, 0, st.Size)
}

// content copies size bytes from at on. A file that became shorter meanwhile is
// filled up with zeros, since its size is written already.
func (p *packer) content(w io.Writer, fd int, path string, at, size int64) error {
	for size > 0 {
		b := p.buf[:min(int64(len(p.buf)), size)]
		n, err := ignoringEINTR(func() (int, error) { return unix.Pread(fd, b, at) })
		if err != nil || n == 0 {
			if err == nil {
				err = errors.New("it became shorter while it was read")
			}
			p.problem(path, err)
			return zeros(w, size)
		}
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		p.progress(int64(n))
		at, size = at+int64(n), size-int64(n)
	}
	return nil
}

func zeros(w io.Writer, n int64) error {
	_, err := io.CopyN(w, zeroReader{}, n)
	return err
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// header has all but a link's name.
func (p *packer) header(kind byte, name string, st *unix.Stat_t) *tar.Header {
	h := &tar.Header{
		Typeflag: kind, Name: name, Mode: int64(st.Mode & 0o7777),
		ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX,
	}
	h.Uid, h.Gid = p.owner(int(st.Uid), int(st.Gid))
	if kind == tar.TypeReg {
		h.Size = st.Size
	}
	return h
}

// ofKernel: what lies there is made up when it is read, some of it endless.
func ofKernel(path string) bool {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return false
	}
	switch st.Type {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.DEVPTS_SUPER_MAGIC:
		return true
	}
	return false
}

// reason is err without the path, which is told apart from it.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// Size is how many bytes of content Pack would find at src, as far as they can
// be seen; holes count as the content that they are read as.
func Size(src string) (total int64) {
	root, err := filepath.EvalSymlinks(src)
	if err != nil {
		return 0
	}
	_ = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error { // what it cannot see, Pack tells
		if err == nil && d.Type().IsRegular() {
			if st, err := d.Info(); err == nil {
				total += st.Size()
			}
		}
		return nil
	})
	return total
}

// BaseName is what a copy of path is called: its last element, or "." where it
// has none of its own ("/", "..", a home directory) and where the path's end asks
// for what lies inside ("dir/.").
func BaseName(path string) string {
	base := filepath.Base(path)
	if base == "/" || base == "." || base == ".." || base == "~" || strings.HasSuffix(path, "/.") {
		return "."
	}
	return base
}
