package usernet

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"banger"
)

// NewWith is New without passt, on a host where only free ports can be listened on.
func NewWith(free func(netip.AddrPort) bool, ports ...uint16) *Attacher {
	a := New(Config{})
	a.ports = ports
	a.free = func(_ banger.Proto, at netip.AddrPort) error {
		if free(at) {
			return nil
		}
		return unix.EADDRINUSE
	}
	return a
}

// Candidates is what New chooses from on a host with this ephemeral range.
func Candidates(rangeFile string) []uint16 { return candidates(parseRange(rangeFile)) }

// CheckFree is what Attach asks before it makes anything.
func CheckFree(a *Attacher, ports []banger.Publish) error { return a.checkFree(ports) }
