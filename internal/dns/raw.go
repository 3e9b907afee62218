package dns

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A rawSocket reads and writes an IPv4 datagram socket at once, or not at all. It does
// not tell the runtime, as each call of package net's does: that is for calls that may
// take long, and wakes a thread first that looks after those where none was under way
// for a while, which costs more than a short answer (Go 1.26, entersyscall).
type rawSocket struct {
	from unix.RawSockaddrInet4 // of what was read last
	size uint32
}

// receive reads a message, and returns EAGAIN if there is none.
func (s *rawSocket) receive(fd uintptr, b []byte) (n int, err syscall.Errno) {
	s.size = unix.SizeofSockaddrInet4
	r, _, err := syscall.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT,
		uintptr(unsafe.Pointer(&s.from)), uintptr(unsafe.Pointer(&s.size)))
	return int(r), err
}

// sender is who sent it.
func (s *rawSocket) sender() netip.AddrPort {
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], s.from.Port)
	return netip.AddrPortFrom(netip.AddrFrom4(s.from.Addr), binary.BigEndian.Uint16(port[:]))
}

// reply sends an answer there.
func (s *rawSocket) reply(fd uintptr, b []byte) syscall.Errno {
	_, _, err := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT,
		uintptr(unsafe.Pointer(&s.from)), unix.SizeofSockaddrInet4)
	return err
}
