// Package network is the contract for a VM's way out: an Attacher gives one VM
// its network, a Router makes the host's match. It knows no mode; its children do.
package network

import (
	"context"
	"net/netip"

	"banger"
)

// An Attacher gives one VM its network, before its VMM starts. Attach and
// Detach are idempotent.
type Attacher interface {
	// Mode is the mode that a spec names.
	Mode() banger.NetworkMode
	// Probe says whether a VM can be attached now, before anything is touched;
	// its error is a *banger.Error.
	Probe(ctx context.Context) error
	// Attach makes the way out, or plans it where the VMM itself will make it,
	// and says where it ends. With prev, the endpoint of an earlier Attach for
	// the same run, it returns an equal one if that still holds.
	Attach(ctx context.Context, n NIC, prev *banger.Endpoint) (banger.Endpoint, error)
	Detach(ctx context.Context, n NIC) error
}

// A Publisher is an Attacher that leads ports of the host to a VM.
type Publisher interface {
	// CheckPublish says what is wrong with these ports of a VM on this host,
	// whoever else uses them now: a *banger.Error.
	CheckPublish(ports []banger.Publish, isolated bool) error
}

// A Republisher is a Publisher that can do so while a VM runs.
type Republisher interface {
	// Republish makes what Attach made follow n.Publish while the VM runs, at once. A
	// port that cannot be had is HostUnready; then, as after any other error, it is as
	// it was.
	Republish(ctx context.Context, n NIC) error
	// Open are the ports that lead to a VM now. It waits for nothing.
	Open(banger.VMID) []banger.OpenPort
}

// A Translator is an Attacher whose VMs reach the world by NAT of the host's.
type Translator interface {
	// CheckNAT reports why VMs cannot have it now: a *banger.Error with a remedy.
	CheckNAT(ctx context.Context) error
	// Adjust makes what Attach made follow n.NAT, n.Isolated and n.Allow while the VM
	// runs.
	Adjust(ctx context.Context, n NIC) error
}

// A Fragile attacher makes networks that can end by themselves while their VM
// runs.
type Fragile interface {
	// Lost returns a channel that is closed when what Attach made for this VM
	// has ended without Detach, and what to say then, a *banger.Error. nil:
	// there is nothing to lose. The network also ends with its VMM: that is no loss.
	Lost(banger.VMID) (gone <-chan struct{}, why func() error)
}

// A NIC is one VM's network card.
type NIC struct {
	VM    banger.VMID
	MAC   string
	Addr  netip.Addr
	Net   Subnet
	Owner *banger.Owner // whom the VMM runs as, and what is made for it; nil: the daemon's own user

	Stream   bool // the VMM can be joined to a process by a unix stream socket
	Isolated bool
	NAT      bool // it is to reach the world by NAT
	Publish  []banger.Publish
	Allow    []banger.HostPort // ports of the host that it is let to
}

// MaxAllow bounds the ports of the host that one VM is let to, MaxAllowAll those that
// the VMs of an installation that run are: a message to banger-root has room for them.
const (
	MaxAllow    = 16
	MaxAllowAll = 256
)

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

// An Uplink is a link by which the host reaches the world.
type Uplink struct {
	Name   string
	MTU    int  // bytes
	Closed bool // the host forwards, but not what comes in here
}

// A Router makes the host's network equal to a Config. Set may be called again
// with the same Config, and after a crash: it changes only what differs, and
// touches nothing that does not carry the caller's uid and the Config's tag.
type Router interface {
	// Probe says whether Set can work here; its error is a *banger.Error.
	Probe(ctx context.Context) error
	// Set brings links, taps, routes, sysctls and rules into the state that c
	// asks for. With no NICs nothing of the installation's is left on the host.
	Set(ctx context.Context, c Config) error
}

// A Config is the whole desired network of one installation, computed from the
// records while the router's lock is held.
type Config struct {
	Tag    string       `json:"tag"`    // of the installation: 4 hex digits; keeps two of one user apart, grants nothing
	Subnet netip.Prefix `json:"subnet"` // private, /16 to /28; its first address is the gateway
	Taps   []Tap        `json:"taps"`   // of the VMs that run, or are about to

	// Names is the port of the gateway's address where guests are answered that ask
	// the gateway or the resolver for names; 0: nobody answers.
	Names uint16 `json:"names"`

	Ports []Port `json:"ports,omitempty"` // that lead to these taps from outside; none: nothing is led
}

// A Tap is one VM's routed card, as the host has it. Names of links follow
// from uid, tag and VM; nobody chooses them.
type Tap struct {
	VM       banger.VMID `json:"vm"`
	Addr     netip.Addr  `json:"address"`  // in the subnet: the tap's host route is this /32
	Isolated bool        `json:"isolated"` // from other VMs, both ways
	NAT      bool        `json:"nat"`      // reaches the world, as the host

	// Allow are ports of the host, at the gateway's address, that it is let to.
	Allow []banger.HostPort `json:"allow,omitempty"`
}
