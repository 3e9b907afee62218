package addr

import (
	"encoding/binary"
	"net/netip"

	"banger"
)

// CheckSubnet says what is wrong with a subnet that a user asks for: it must be
// private (RFC 1918, or RFC 6598's 100.64/10), of /20 to /28, and overlap none
// of taken, as FreeSubnet has it.
func CheckSubnet(p netip.Prefix, taken []netip.Prefix) error {
	if !p.IsValid() || !p.Addr().Is4() || p != p.Masked() {
		return banger.Errorf(banger.Invalid, "%s is no IPv4 network", p).WithRemedy("give its first address and its length, as 10.77.0.0/20")
	}
	if p.Bits() < Bits || p.Bits() > 28 {
		return banger.Errorf(banger.Invalid, "subnet %s is a /%d", p, p.Bits()).WithRemedy("give one from /20 to /28")
	}
	if !within(p, private) {
		return banger.Errorf(banger.Invalid, "subnet %s is not private", p).WithRemedy("give a part of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10")
	}
	if o := Overlaps(p, taken); len(o) > 0 {
		return banger.Errorf(banger.HostUnready, "subnet %s overlaps the host's route to %s", p, o[0]).WithRemedy("see what is free: ip route")
	}
	return nil
}

// private are the networks that nobody on the internet has.
var private = prefixes("10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10")

func within(p netip.Prefix, pools []netip.Prefix) bool {
	for _, pool := range pools {
		if pool.Bits() <= p.Bits() && pool.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// Overlaps returns those of taken that overlap p and are no way out to the
// world (shorter than /8).
func Overlaps(p netip.Prefix, taken []netip.Prefix) (all []netip.Prefix) {
	for _, t := range neighbours(taken) {
		if p.Overlaps(t) {
			all = append(all, t)
		}
	}
	return all
}

// Move returns the address that stands in subnet to where a stands in from: a
// VM keeps its place. WrongState if to is too small for it.
func Move(a netip.Addr, from, to netip.Prefix) (netip.Addr, error) {
	n := offset(from, a)
	if n >= uint32(1)<<(32-to.Bits())-1 {
		return netip.Addr{}, banger.Errorf(banger.WrongState, "%s has no place for %s of %s", to, a, from).WithRemedy("give a subnet as large as %s", from)
	}
	return add(to.Addr(), n), nil
}

// offset is a's place in p, which contains it.
func offset(p netip.Prefix, a netip.Addr) uint32 {
	x, base := a.As4(), p.Masked().Addr().As4()
	return binary.BigEndian.Uint32(x[:]) - binary.BigEndian.Uint32(base[:])
}
