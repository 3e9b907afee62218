package server

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/fault"
)

const (
	aclName = "system.posix_acl_access"
	rw      = 0o6
)

// markName is the attribute that says that banger gave uid its entry: logind
// gives the same to who sits at the seat. It lies on the device, and goes with it.
func markName(uid uint32) string { return fmt.Sprintf("trusted.banger.kvm.%d", uid) }

// allowKVM lets uid open the device, unless it may already.
func allowKVM(device string, uid uint32) error {
	mode, a, err := readDevice(device)
	if err != nil || uid == 0 || mode&rw == rw || a.perm(uid)&rw == rw {
		return err
	}
	err = change("mark /dev/kvm", func() error { return unix.Lsetxattr(device, markName(uid), []byte("1"), 0) })
	if err == nil {
		err = change("open /dev/kvm to a user", func() error { return unix.Lsetxattr(device, aclName, a.with(uid, rw).bytes(), 0) })
	}
	return err
}

// revokeKVM takes back what allowKVM gave.
func revokeKVM(device string, uid uint32) error {
	_, a, err := readDevice(device)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err == nil {
		_, err = unix.Lgetxattr(device, markName(uid), nil)
	}
	if errors.Is(err, unix.ENODATA) {
		return nil
	}
	if err == nil {
		err = change("close /dev/kvm to a user", func() error { return unix.Lsetxattr(device, aclName, a.with(uid, 0).bytes(), 0) })
	}
	if err == nil {
		err = change("unmark /dev/kvm", func() error { return unix.Lremovexattr(device, markName(uid)) })
	}
	return err
}

func change(what string, f func() error) error {
	err := fault.At(what)
	if err == nil {
		err = f()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// readDevice returns mode and ACL of a device that is one; an ACL that follows
// from the mode where there is no other.
func readDevice(path string) (mode uint32, a acl, err error) {
	var st unix.Stat_t
	if err = unix.Lstat(path, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFCHR {
		err = errors.New("not a character device")
	}
	if err != nil {
		return 0, nil, banger.Errorf(banger.HostUnready, "%s: %w", path, err).WithRemedy("sudo modprobe kvm_intel || sudo modprobe kvm_amd")
	}
	b := make([]byte, 64<<10) // of an extended attribute
	n, err := unix.Lgetxattr(path, aclName, b)
	if errors.Is(err, unix.ENODATA) {
		return st.Mode, minimal(st.Mode), nil
	}
	if err == nil {
		a, err = parseACL(b[:n])
	}
	return st.Mode, a, err
}
