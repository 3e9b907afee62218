package link

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
)

// endStale ends connections that are led to a VM by no port of c's: an Apply that was
// killed, or has failed, after it had changed the rules has not come to endLed, and no
// later one sees a difference. The kernel would lead what comes in them as before, and
// whoever has the port by then would not get it. Where the kernel does not tell its
// connections they end by themselves.
func (s *setter) endStale(c network.Config) {
	addresses, led := map[banger.VMID]netip.Addr{}, ways{}
	for _, t := range c.Taps {
		addresses[t.VM] = t.Addr
	}
	for _, p := range c.Ports {
		led[string(slices.Concat(protocol(p.Proto), service(p.Host.Port()), addresses[p.VM].AsSlice(), service(p.Guest)))] = true
	}
	stale := stale{s.net, led}
	var flows []*netlink.ConntrackFlow
	if s.err == nil {
		flows, _ = s.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	}
	s.do(slices.ContainsFunc(flows, stale.MatchConntrackFlow), "end stale connections", func() error {
		_, _ = s.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, stale)
		return nil
	})
}

// stale are connections to VMs of a subnet that have been led there, and are not any more.
type stale struct {
	net network.Subnet
	led ways
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter. Guests' questions for
// names are led as well, to the gateway.
func (s stale) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	to := toAddr(f.Reverse.SrcIP)
	return s.net.Prefix.Contains(to) && to != s.net.Gateway && to != toAddr(f.Forward.DstIP) && !s.led.MatchConntrackFlow(f)
}
