package server

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

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
	if err != nil || uid == 0 || mode&rw == rw {
		return err
	}
	// chmod changes the mask where there is one, and means all that it bounds: to
	// raise it again would let others in.
	if a.mask()&rw != rw {
		return banger.Errorf(banger.HostUnready, "the mask of the ACL of %s keeps users out", device).
			WithRemedy("see why: getfacl %s; to let in again whom it names: sudo setfacl -m m::rw %s", device, device)
	}
	if a.perm(uid)&rw == rw {
		return nil
	}
	err = fault.Do("mark /dev/kvm", func() error { return unix.Lsetxattr(device, markName(uid), []byte("1"), 0) })
	if err == nil {
		err = fault.Do("open /dev/kvm to a user", func() error { return unix.Lsetxattr(device, aclName, a.with(uid, rw).bytes(), 0) })
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
		err = fault.Do("close /dev/kvm to a user", func() error { return unix.Lsetxattr(device, aclName, a.with(uid, 0).bytes(), 0) })
	}
	if err == nil {
		err = fault.Do("unmark /dev/kvm", func() error { return unix.Lremovexattr(device, markName(uid)) })
	}
	return err
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

// An acl is a POSIX ACL as the kernel's extended attribute has it, after a
// version: entries ordered by tag and id (linux/posix_acl_xattr.h).
type acl []entry

type entry struct {
	Tag, Perm uint16
	ID        uint32
}

const (
	aclVersion = 2
	userObj    = 0x01
	user       = 0x02
	groupObj   = 0x04
	group      = 0x08
	mask       = 0x10
	other      = 0x20
	noID       = math.MaxUint32
)

// minimal is the ACL that says what a mode says.
func minimal(mode uint32) acl {
	return acl{{userObj, uint16(mode >> 6 & 7), noID}, {groupObj, uint16(mode >> 3 & 7), noID}, {other, uint16(mode & 7), noID}}
}

func parseACL(b []byte) (acl, error) {
	if len(b) < 4 || (len(b)-4)%8 != 0 || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, errors.New("an ACL that this program does not know")
	}
	a := make(acl, (len(b)-4)/8)
	return a, binary.Read(bytes.NewReader(b[4:]), binary.LittleEndian, a)
}

func (a acl) bytes() []byte {
	b, err := binary.Append(binary.LittleEndian.AppendUint32(nil, aclVersion), binary.LittleEndian, a)
	if err != nil {
		panic(err) // of a type without a fixed size
	}
	return b
}

// perm is what uid's entry gives it.
func (a acl) perm(uid uint32) (perm uint16) {
	for _, e := range a {
		if e.Tag == user && e.ID == uid {
			perm = e.Perm
		}
	}
	return perm
}

// mask is what the ACL's mask lets through: all, where it has none.
func (a acl) mask() uint16 {
	for _, e := range a {
		if e.Tag == mask {
			return e.Perm
		}
	}
	return 0o7
}

// with gives uid perm, or no entry for 0. The mask, which bounds all but owner
// and others, becomes what the entries that it bounds have together, and with one
// entry less lets through no more than before. What is left without a named entry
// a mode can say, and the kernel makes it one again.
func (a acl) with(uid uint32, perm uint16) acl {
	m, named, bound := entry{mask, 0, noID}, false, uint16(0o7)
	if perm == 0 {
		bound = a.mask()
	}
	a = slices.DeleteFunc(slices.Clone(a), func(e entry) bool { return e.Tag == mask || e.Tag == user && e.ID == uid })
	if perm != 0 {
		a = append(a, entry{user, perm, uid})
	}
	for _, e := range a {
		named = named || e.Tag == user || e.Tag == group
		if e.Tag != userObj && e.Tag != other {
			m.Perm |= e.Perm
		}
	}
	m.Perm &= bound
	if named {
		a = append(a, m)
	} else if i := slices.IndexFunc(a, func(e entry) bool { return e.Tag == groupObj }); i >= 0 {
		a[i].Perm &= bound
	}
	slices.SortFunc(a, func(x, y entry) int { return cmp.Or(cmp.Compare(x.Tag, y.Tag), cmp.Compare(x.ID, y.ID)) })
	return a
}
