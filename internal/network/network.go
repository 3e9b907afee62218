// Package network is the contract for a VM's way out: an Attacher gives one VM
// its network. It knows no mode; its children do.
package network

import (
	"context"
	"net/netip"

	"banger"
)

// An Attacher gives one VM its network, before its VMM starts. Both methods
// are idempotent.
type Attacher interface {
	// Mode is the mode that a spec names.
	Mode() banger.NetworkMode
	// Attach makes the way out, or plans it where the VMM itself will make it,
	// and says where it ends. With prev, the endpoint of an earlier Attach for
	// the same run, it returns an equal one if that still holds.
	Attach(ctx context.Context, n NIC, prev *banger.Endpoint) (banger.Endpoint, error)
	Detach(ctx context.Context, n NIC) error
}

// A NIC is one VM's network card.
type NIC struct {
	VM   banger.VMID
	MAC  string
	Addr netip.Addr
	Net  Subnet
}

// A Subnet is the installation's: chosen once, then kept.
type Subnet struct {
	Prefix   netip.Prefix // private, /16 to /28
	Gateway  netip.Addr   // the first address
	Resolver netip.Addr   // the second: where guests ask for names
}

// SubnetOf returns the Subnet of a prefix: gateway and resolver are its first
// two addresses.
func SubnetOf(p netip.Prefix) Subnet {
	g := p.Masked().Addr().Next()
	return Subnet{Prefix: p.Masked(), Gateway: g, Resolver: g.Next()}
}
