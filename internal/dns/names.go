package dns

import (
	"context"
	"net/netip"
	"slices"

	"banger"
	"banger/internal/network"
)

// Names are what is true at one moment: which labels there are below the zone, and
// whose the addresses of the subnet are. They are not changed once they are
// made.
type Names struct {
	subnet netip.Prefix
	hosts  map[string][]netip.Addr
	labels map[netip.Addr]string

	// Outside says that what is not ours is asked outside, for this asker.
	Outside bool
}

// NewNames returns Names without any; subnet is the one whose addresses are
// asked for by PTR, an IPv4 prefix of /16 or longer.
func NewNames(subnet netip.Prefix) *Names {
	return &Names{subnet: subnet.Masked(), hosts: map[string][]netip.Addr{}, labels: map[netip.Addr]string{}}
}

// Add gives a label addresses. One without any exists, and is answered with NODATA.
func (n *Names) Add(label string, addrs ...netip.Addr) {
	n.hosts[label] = addrs
	for _, a := range addrs {
		if n.subnet.Contains(a) {
			n.labels[a] = label
		}
	}
}

// Of returns the names of VMs as the host has them. A VM has its name as long as
// its VMM lives. Routed, it answers with its own address. In mode user that address
// leads nowhere outside of the VM; 127.0.0.1 does where a port is published there,
// and is claimed only then.
func Of(subnet netip.Prefix, vms []banger.VM) *Names {
	n := NewNames(subnet)
	for _, v := range vms {
		if v.PID == 0 {
			continue
		}
		switch {
		case v.Network == banger.NetworkRouted:
			n.Add(v.Name, v.Addr)
		case slices.ContainsFunc(v.Publish, onLoopback):
			n.Add(v.Name, loopback)
		default:
			n.Add(v.Name)
		}
	}
	return n
}

// ForGuest returns what the VM of that address may know: the routed ones that run,
// if neither is isolated, and itself; the host, if it is let to a port of that; and what
// is outside if it reaches the world.
// nil if there is no such VM. Ports that others have published on the host's loopback
// lead a guest nowhere.
func ForGuest(subnet netip.Prefix, vms []banger.VM, asker netip.Addr) *Names {
	runs := func(v banger.VM) bool { return v.PID != 0 && v.Network == banger.NetworkRouted }
	i := slices.IndexFunc(vms, func(v banger.VM) bool { return v.Addr == asker && runs(v) })
	if i < 0 {
		return nil
	}
	n := NewNames(subnet)
	for _, v := range vms {
		if runs(v) && (v.ID == vms[i].ID || !v.Isolated && !vms[i].Isolated) {
			n.Add(v.Name, v.Addr)
		}
	}
	if len(vms[i].AllowHost) > 0 {
		n.Add(banger.HostName, network.SubnetOf(subnet).Gateway)
	}
	n.Outside = vms[i].NAT != banger.NATOff
	return n
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func onLoopback(p banger.Publish) bool {
	return p.Host.Addr() == loopback || p.Host.Addr().IsUnspecified()
}

// A View says what an asker may know now; nil: it is not answered. A listener has one:
// whoever asks on the host is told of all VMs, each guest of those that it may see. It
// is called for each question, and answers from memory or ends soon by itself: to time
// each call costs more than all else of a short answer.
type View func(ctx context.Context, asker netip.Addr) (*Names, error)
