package initramfs

import (
	"bytes"
	"fmt"
	"io"
	"path"
)

// Modes as the kernel's unpacker reads them: file type and permissions.
const (
	modeDir     = 0o040000
	modeRegular = 0o100000
)

const trailer = "TRAILER!!!"

// An archive writes the cpio format "newc", the one that the kernel unpacks.
// Owners are root and times are zero, so equal contents make equal bytes.
type archive struct {
	w    io.Writer
	size int64 // bytes written
	ino  uint32
	dirs map[string]bool
	err  error // the first; nothing is written after it
}

func newArchive(w io.Writer) *archive {
	return &archive{w: w, dirs: map[string]bool{".": true}}
}

// file adds a file of size bytes and the directories that lead to it. The
// kernel makes no directory by itself.
func (a *archive) file(name string, mode uint32, size int64, content io.Reader) {
	a.parents(name)
	a.header(name, modeRegular|mode, size)
	if a.err != nil {
		return
	}
	n, err := io.CopyN(a.w, content, size)
	a.size += n
	if err != nil {
		a.err = fmt.Errorf("write %s into archive: %w", name, err)
		return
	}
	a.pad()
}

func (a *archive) bytes(name string, mode uint32, content []byte) {
	a.file(name, mode, int64(len(content)), bytes.NewReader(content))
}

func (a *archive) parents(name string) {
	dir := path.Dir(name)
	if a.dirs[dir] {
		return
	}
	a.parents(dir)
	a.dirs[dir] = true
	a.header(dir, modeDir|0o700, 0)
}

// close ends the archive, padded to 4 bytes: an archive that follows must begin
// at such a boundary.
func (a *archive) close() error {
	a.header(trailer, 0, 0)
	return a.err
}

func (a *archive) header(name string, mode uint32, size int64) {
	if size >= 1<<32 && a.err == nil {
		a.err = fmt.Errorf("write %s into archive: %d bytes are too many", name, size)
	}
	a.ino++
	// magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
	// rdevmajor, rdevminor, namesize, check
	a.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.ino, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0, name))
	a.pad()
}

func (a *archive) pad() {
	a.write(make([]byte, -a.size&3))
}

func (a *archive) write(p []byte) {
	if a.err != nil {
		return
	}
	n, err := a.w.Write(p)
	a.size += int64(n)
	a.err = err
}
