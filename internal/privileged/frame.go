package privileged

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
)

// Network is the kind of socket: it keeps the bounds of messages, so that a
// message and its descriptors arrive together or not at all.
const Network = "unixpacket"

// maxFiles bounds the descriptors that the kernel may install for a message,
// above what any request has: one too many is seen, and closed.
const maxFiles = network.MaxPorts + 2

// Send writes v as one message, with files beside it, which stay the caller's.
// Deadlines are the connection's.
func Send(c *net.UnixConn, v any, files ...*os.File) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > MaxMessage {
		return banger.Errorf(banger.Invalid, "a message of %d bytes, %d are allowed", len(b), MaxMessage)
	}
	if len(files) == 0 {
		_, err = c.Write(b)
		return err
	}
	fds := make([]int, len(files))
	for i, f := range files {
		if fds[i], err = number(f); err != nil {
			return err
		}
	}
	_, _, err = c.WriteMsgUnix(b, unix.UnixRights(fds...), nil)
	runtime.KeepAlive(files)
	return err
}

// number is f's descriptor. Fd of an os.File would make it a blocking one, and with it
// the socket that others hold as well.
func number(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Control(func(n uintptr) { fd = int(n) })
	}
	return fd, err
}

// Receive reads one message and the descriptors beside it, which are closed on
// exec and the caller's to close. io.EOF when the peer has ended. A message that
// is too long, or comes with anything but a few descriptors, is Invalid, and no
// descriptor of it stays open. An empty one is the end.
func Receive(c *net.UnixConn) ([]byte, []*os.File, error) {
	b := make([]byte, MaxMessage+1)
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, ended := c.ReadMsgUnix(b, oob)
	files, err := filesOf(oob[:oobn]) // which an empty message may bring, too
	switch {
	case ended != nil:
		err = ended
	case err != nil:
	case flags&unix.MSG_CTRUNC != 0:
		err = invalid("more descriptors than any request has")
	case n > MaxMessage || flags&unix.MSG_TRUNC != 0:
		err = invalid("a message of more than %d bytes", MaxMessage)
	}
	if err != nil {
		CloseAll(files)
		return nil, nil, err
	}
	return b[:n:n], files, nil
}

// filesOf takes the descriptors that the kernel has installed. All of them are
// found before anything is refused: none may stay open.
func filesOf(oob []byte) (files []*os.File, err error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("control message: %w", err)
	}
	for _, m := range msgs {
		fds, perr := unix.ParseUnixRights(&m)
		if perr != nil {
			err = invalid("a control message that holds no descriptors")
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, err
}

// CloseAll closes files.
func CloseAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// PeerUID is the uid of the process at the other end when it connected or, of
// the end that listens, when it began to.
func PeerUID(c *net.UnixConn) (uid uint32, pid int32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(cerr, err); err != nil {
		return 0, 0, fmt.Errorf("ask who is at the other end: %w", err)
	}
	return cred.Uid, cred.Pid, nil
}
