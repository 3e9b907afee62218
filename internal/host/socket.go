package host

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"banger"
)

// RemoveStale removes the socket of a process that has ended. One that lives
// would lose its only door: it is Busy.
func RemoveStale(socket string) error {
	if conn, err := net.Dial("unix", socket); err == nil {
		conn.Close()
		return banger.Errorf(banger.Busy, "another process listens on %s", socket)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove a stale control socket: %w", err)
	}
	return nil
}

// IsPeer returns nil if the process pid listens at the other end.
func IsPeer(conn net.Conn, pid int) error {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("%T is no unix socket", conn)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(cerr, err); err != nil {
		return err
	}
	if int(cred.Pid) != pid {
		return fmt.Errorf("process %d listens there, not the VMM (%d)", cred.Pid, pid)
	}
	return nil
}
