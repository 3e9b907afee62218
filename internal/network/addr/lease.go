package addr

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"banger"
	"banger/internal/network"
)

// Lease returns what a new VM is leased: the lowest address of the subnet that
// neither the subnet itself (network, gateway, resolver, broadcast) nor a lease
// in taken has, a MAC that follows from the installation's tag and the VM's ID,
// and a random machine-id. WrongState if the subnet is full.
func Lease(tag string, subnet network.Subnet, id banger.VMID, taken []banger.Lease) (banger.Lease, error) {
	addrs, macs := map[netip.Addr]bool{subnet.Gateway: true, subnet.Resolver: true}, map[string]bool{}
	for _, l := range taken {
		addrs[l.Addr], macs[l.MAC] = true, true
	}
	a, ok := lowest(subnet.Prefix, addrs)
	if !ok {
		return banger.Lease{}, banger.Errorf(banger.WrongState, "all addresses of %s are leased", subnet.Prefix).
			WithRemedy("delete a VM: banger rm VM")
	}
	return banger.Lease{Addr: a, MAC: mac(tag, id, macs), MachineID: machineID()}, nil
}

// lowest skips the first and the last address: they name the network and its
// broadcast, whatever length the guest believes its prefix to have.
func lowest(p netip.Prefix, used map[netip.Addr]bool) (netip.Addr, bool) {
	p = p.Masked()
	hosts := uint32(1)<<(32-p.Bits()) - 1
	for n := uint32(1); n < hosts; n++ {
		if a := add(p.Addr(), n); !used[a] {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// mac hashes what names the VM. The second-lowest bit of the first byte says
// that the address is locally administered, the lowest that it is no
// multicast's (IEEE 802).
func mac(tag string, id banger.VMID, used map[string]bool) string {
	for n := 0; ; n++ {
		h := sha256.Sum256(fmt.Appendf(nil, "banger mac %s %s %d", tag, id, n))
		m := net.HardwareAddr(h[:6])
		m[0] = m[0]&^1 | 2
		if s := m.String(); !used[s] {
			return s
		}
	}
}

// machineID is a random UUID of version 4 without hyphens, as systemd makes it.
func machineID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return hex.EncodeToString(b[:])
}

// UID returns the user, and the group, that a VM's VMM runs as when the daemon
// is root: sixteen bits of the installation's tag, then twelve of the VM's
// place in the subnet. It is the VM's alone as long as its lease is.
func UID(tag string, subnet netip.Prefix, a netip.Addr) (uint32, error) {
	t, err := strconv.ParseUint(tag, 16, 16)
	if err != nil || len(tag) != 4 {
		return 0, fmt.Errorf("installation tag %q is not 4 hex digits", tag)
	}
	if !a.Is4() || subnet.Bits() < Bits || !subnet.Contains(a) {
		return 0, fmt.Errorf("address %s has no place of %d bits in %s", a, 32-Bits, subnet)
	}
	// Its place, not its last bits: a move to another subnet changes no owner.
	return banger.FirstOwner | uint32(t)<<(32-Bits) | offset(subnet, a), nil
}

// TapOwner returns the user that a tap of uid's belongs to: uid, or where that is
// root the VM's own, as which its VMM runs. A VMM that opens its tap by its name,
// as Firecracker does, can open no other.
func TapOwner(uid uint32, tag string, subnet netip.Prefix, a netip.Addr) uint32 {
	if owner, err := UID(tag, subnet, a); err == nil && uid == 0 {
		return owner
	}
	return uid
}

// add returns a+n.
func add(a netip.Addr, n uint32) netip.Addr {
	b := a.As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+n)
	return netip.AddrFrom4(b)
}
