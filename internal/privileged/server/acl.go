package server

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"
)

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

// with gives uid perm, or no entry for 0. The mask, which bounds all but owner
// and others, becomes what the entries that it bounds have together. What is
// left without a named entry a mode can say, and the kernel makes it one again.
func (a acl) with(uid uint32, perm uint16) acl {
	m, named := entry{mask, 0, noID}, false
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
	if named {
		a = append(a, m)
	}
	slices.SortFunc(a, func(x, y entry) int { return cmp.Or(cmp.Compare(x.Tag, y.Tag), cmp.Compare(x.ID, y.ID)) })
	return a
}
