package matrix

import (
	"syscall"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// faultyDisk makes SQLite's default VFS fail, or end this process, at the nth
// thing that it writes: a write, a sync, a truncation or a removal of a file.
// There is one per process, as there is one default VFS.
var faultyDisk disk

type disk struct {
	n    int    // writes until now
	at   int    // the one that fails, 0: none
	mode string // torn, done: SIGKILL in its middle, after it; full, broken: it fails, and so do all later ones

	open     func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32
	remove   func(*libc.TLS, uintptr, uintptr, int32) int32
	write    func(*libc.TLS, uintptr, uintptr, int32, int64) int32
	truncate func(*libc.TLS, uintptr, int64) int32
	sync     func(*libc.TLS, uintptr, int32) int32
	methods  map[uintptr]uintptr // by the default ones (a database's and a journal's differ): the same with ours among them
}

// breakDisk patches the default VFS.
func breakDisk(mode string, at int) {
	d := &faultyDisk
	d.mode, d.at, d.methods = mode, at, map[uintptr]uintptr{}
	tls := libc.NewTLS()
	defer tls.Close()
	vfs := (*sqlite3.Tsqlite3_vfs)(memory(sqlite3.Xsqlite3_vfs_find(tls, 0)))
	swap(&vfs.FxOpen, &d.open, faultyOpen)
	swap(&vfs.FxDelete, &d.remove, faultyRemove)
}

// swap puts a function of Go's in the place of a C function pointer.
func swap[F any](slot *uintptr, old *F, by F) {
	p := (*F)(unsafe.Pointer(slot))
	*old, *p = *p, by
}

// memory is memory of libc's, which Go neither moves nor frees.
func memory(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

func faultyOpen(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32 {
	d := &faultyDisk
	rc := d.open(tls, vfs, name, file, flags, out)
	f := (*sqlite3.Tsqlite3_file)(memory(file))
	if rc != sqlite3.SQLITE_OK || f.FpMethods == 0 {
		return rc
	}
	if d.methods[f.FpMethods] == 0 {
		own := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_io_methods{})))
		m := (*sqlite3.Tsqlite3_io_methods)(memory(own))
		*m = *(*sqlite3.Tsqlite3_io_methods)(memory(f.FpMethods))
		swap(&m.FxWrite, &d.write, faultyWrite)
		swap(&m.FxTruncate, &d.truncate, faultyTruncate)
		swap(&m.FxSync, &d.sync, faultySync)
		d.methods[f.FpMethods] = own
	}
	f.FpMethods = d.methods[f.FpMethods]
	return rc
}

func faultyWrite(tls *libc.TLS, file, buf uintptr, n int32, at int64) int32 {
	d := &faultyDisk
	return d.do(sqlite3.SQLITE_IOERR_WRITE,
		func() { d.write(tls, file, buf, n/2, at) },
		func() int32 { return d.write(tls, file, buf, n, at) })
}

func faultyTruncate(tls *libc.TLS, file uintptr, size int64) int32 {
	return faultyDisk.do(sqlite3.SQLITE_IOERR_TRUNCATE, func() {}, func() int32 { return faultyDisk.truncate(tls, file, size) })
}

func faultySync(tls *libc.TLS, file uintptr, flags int32) int32 {
	return faultyDisk.do(sqlite3.SQLITE_IOERR_FSYNC, func() {}, func() int32 { return faultyDisk.sync(tls, file, flags) })
}

func faultyRemove(tls *libc.TLS, vfs, name uintptr, sync int32) int32 {
	return faultyDisk.do(sqlite3.SQLITE_IOERR_DELETE, func() {}, func() int32 { return faultyDisk.remove(tls, vfs, name, sync) })
}

// do does a write, or what is to happen instead; half is its first half.
func (d *disk) do(broken int32, half func(), whole func() int32) int32 {
	d.n++
	if d.at == 0 || d.n < d.at {
		return whole()
	}
	switch d.mode {
	case "torn":
		half()
		die()
	case "done":
		whole()
		die()
	case "full":
		return sqlite3.SQLITE_FULL
	}
	return broken
}

// die is SIGKILL: nothing of this process runs any more.
func die() {
	syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {}
}
