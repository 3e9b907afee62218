package privileged

import (
	"net/netip"
	"slices"

	"banger"
	"banger/internal/network"
)

// MaxTaps bounds the taps of one installation.
const MaxTaps = 1024

// firstPort is the first that anybody may listen on: guests are let to nothing of root's.
const firstPort = 1024

// shared is what RFC 6598 adds to the private addresses of RFC 1918.
var shared = netip.MustParsePrefix("100.64.0.0/10")

// Check reports what is wrong with a request, as Invalid. What depends on the
// host (its routes, its resolvers) is not looked at here.
func (r Request) Check() error {
	network, disk, resolver := false, false, false
	switch r.Op {
	case NetworkSet:
		network = true
	case ResolverSet:
		resolver = true
	case DiskAttach, DiskDetach, DiskStatus:
		disk = true
	case NetworkProbe, DiskProbe, KVMAllow, KVMRevoke, RootExit:
	default:
		return invalid("no operation %q", cut(string(r.Op)))
	}
	switch {
	case network != (r.Network != nil):
		return invalid("%s with a network: %t", r.Op, r.Network != nil)
	case disk != (r.Disk != nil):
		return invalid("%s with a disk: %t", r.Op, r.Disk != nil)
	case resolver != (r.Resolver != nil):
		return invalid("%s with a resolver: %t", r.Op, r.Resolver != nil)
	case network:
		return CheckConfig(*r.Network)
	case resolver:
		return r.Resolver.check()
	case disk:
		return r.Disk.check(r.Op)
	}
	return nil
}

func (r Resolver) check() error {
	if err := checkTag(r.Tag); err != nil || r.Server == (netip.AddrPort{}) {
		return err
	}
	if a := r.Server.Addr(); !a.Is4() || !a.IsLoopback() || r.Server.Port() < 1024 {
		return invalid("names are asked for on 127.0.0.0/8, at a port above 1023, and not at %s", cut(r.Server.String()))
	}
	return nil
}

// check looks at no file.
func (d Disk) check(o Op) error {
	if err := checkTag(d.Tag); err != nil {
		return err
	}
	switch {
	case !d.VM.Valid():
		return invalid("VM %q is not 8 lower-case hex digits", cut(string(d.VM)))
	case (o == DiskAttach) != (d.Size > 0):
		return invalid("%s of %d bytes", o, d.Size)
	}
	return nil
}

func checkTag(tag string) error {
	if !banger.VMID(tag + tag).Valid() { // half as long as an ID, and of the same digits
		return invalid("tag %q is not 4 lower-case hex digits", cut(tag))
	}
	return nil
}

// CheckConfig reports what is wrong with c, as Invalid.
func CheckConfig(c network.Config) error {
	if err := checkTag(c.Tag); err != nil {
		return err
	}
	if err := CheckSubnet(c.Subnet); err != nil {
		return err
	}
	if c.Names != 0 && c.Names < firstPort {
		return invalid("port %d for names: only root may listen there", c.Names)
	}
	if len(c.Taps) > MaxTaps {
		return invalid("%d taps, %d are allowed", len(c.Taps), MaxTaps)
	}
	vms, addrs, allowed := map[banger.VMID]bool{}, map[netip.Addr]bool{}, 0
	for _, t := range c.Taps {
		switch {
		case !t.VM.Valid():
			return invalid("VM %q is not 8 lower-case hex digits", cut(string(t.VM)))
		case !usable(c.Subnet, t.Addr):
			return invalid("address %s is not one for a VM of %s", cut(t.Addr.String()), c.Subnet)
		case vms[t.VM]:
			return invalid("VM %s comes twice", t.VM)
		case addrs[t.Addr]:
			return invalid("address %s comes twice", t.Addr)
		}
		allowed += len(t.Allow)
		if err := checkAllow(t.Allow, allowed); err != nil {
			return err
		}
		vms[t.VM], addrs[t.Addr] = true, true
	}
	return checkPorts(c.Ports, vms)
}

// checkPorts looks at no socket.
func checkPorts(ports []network.Port, vms map[banger.VMID]bool) error {
	if len(ports) > network.MaxPorts {
		return invalid("%d ports, %d are allowed", len(ports), network.MaxPorts)
	}
	for _, p := range ports {
		switch {
		case !vms[p.VM]:
			return invalid("a port of VM %q, which has no tap", cut(string(p.VM)))
		case p.Guest == 0:
			return invalid("port 0 of VM %s", p.VM)
		}
	}
	return nil
}

// checkAllow looks at the ports of one tap; all is how many there are of them so far.
func checkAllow(ports []banger.HostPort, all int) error {
	if len(ports) > network.MaxAllow || all > network.MaxAllowAll {
		return invalid("%d ports of the host for a VM, %d for all so far: %d and %d are allowed", len(ports), all, network.MaxAllow, network.MaxAllowAll).
			WithRemedy("give one away: banger vm set VM --allow-host none")
	}
	for i, p := range ports {
		if err := p.Valid(); err != nil {
			return err
		}
		if slices.Contains(ports[:i], p) {
			return invalid("port %s of the host comes twice", p)
		}
	}
	return nil
}

// CheckSubnet reports why p cannot be an installation's subnet, as Invalid.
func CheckSubnet(p netip.Prefix) error {
	const remedy = "use one of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10, such as 10.77.16.0/20"
	switch {
	case !p.IsValid() || !p.Addr().Is4() || p != p.Masked():
		return invalid("subnet %s is no IPv4 network", p).WithRemedy(remedy)
	case p.Bits() < 16 || p.Bits() > 28:
		return invalid("subnet %s is not between /16 and /28", p).WithRemedy(remedy)
	}
	if !p.Addr().IsPrivate() && !shared.Contains(p.Addr()) { // all three are shorter than any subnet
		return invalid("subnet %s is not private", p).WithRemedy(remedy)
	}
	return nil
}

// usable leaves out the network's own address, its broadcast, and the two that
// SubnetOf gives to gateway and resolver.
func usable(p netip.Prefix, a netip.Addr) bool {
	s := network.SubnetOf(p)
	return p.Contains(a) && p.Contains(a.Next()) && a != p.Addr() && a != s.Gateway && a != s.Resolver
}

// cut bounds what of a foreign string goes into an error and a log.
func cut(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
