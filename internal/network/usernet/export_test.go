package usernet

import (
	"net/netip"

	"banger"
)

// NewWith is New on a host where only free ports can be listened on.
func NewWith(free func(netip.AddrPort) bool, ports ...uint16) *Attacher {
	return &Attacher{ports: ports, free: free, taken: map[uint16]banger.VMID{}}
}

// Candidates is what New chooses from on a host with this ephemeral range.
func Candidates(rangeFile string) []uint16 { return candidates(parseRange(rangeFile)) }
