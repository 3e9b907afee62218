// Package routed is network mode routed: a tap and a host route for each VM,
// made by whoever may (banger-root, through a network.Router). It computes what
// the host should have from the records, and holds the connection to the Router
// while a VM has something of it. It starts no process and touches no link.
package routed

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"banger"
	"banger/internal/network"
)

// A Root is a connection to banger-root.
type Root interface {
	network.Router
	// NAT reports why it cannot make NAT at all.
	NAT() error
	// Resolve has the host's resolver ask server for names of the installation's
	// VMs, while the connection lives; the zero server: nobody any more.
	Resolve(ctx context.Context, tag string, server netip.AddrPort) error
	// Done is closed when the connection is lost.
	Done() <-chan struct{}
	Close() error
}

// A Config is all that an Attacher works with.
type Config struct {
	Tag    string                // of the installation
	Subnet func() network.Subnet // of the installation
	Port   uint16                // of the guest program
	// Dial connects to banger-root, a *banger.Error of code NeedsRoot if it
	// does not run.
	Dial func(context.Context) (Root, error)
	// Wanted are the taps of the VMs whose record has a run in this mode.
	Wanted func(context.Context) ([]network.Tap, error)
	// There are the names of the links of this installation that the host has:
	// taps, and the gateway's, without which there is nothing else.
	There func() ([]string, error)
	// Gateway names the gateway's link, Tap a VM's tap; MAC is a tap's Ethernet
	// address.
	Gateway string
	Tap     func(banger.VMID) string
	MAC     func(banger.VMID) string
	// Uplinks are the links by which the host reaches the world now.
	Uplinks func() ([]network.Uplink, error)
	// Names says whether guests are to be answered when they ask for names, and returns
	// the port of the gateway's address where they are; 0: nobody answers.
	Names func(wanted bool) uint16
	// HostAsks is where the host's resolver is to ask for names of VMs; zero: nowhere,
	// or it cannot be told by banger-root.
	HostAsks func() netip.AddrPort
	Log      *slog.Logger
}

// An Attacher implements network.Attacher over a Router. Make one with New.
type Attacher struct {
	c Config

	mu sync.Mutex // held while the Router works: what is wanted is computed under it
	ports
	root   Root // nil: no connection
	odd    bool // the last Set failed: what the host has is neither the old nor the new
	teller teller

	// down has the VMs that are detached, though their record may still have a run. It is
	// read under mu and added to before: of several that wait for the Router, the first takes
	// away what is of all.
	down sync.Map

	shown atomic.Pointer[map[banger.VMID][]banger.OpenPort] // what of ports is told without mu
}

var (
	_ network.Attacher   = (*Attacher)(nil)
	_ network.Translator = (*Attacher)(nil)
	_ network.Publisher  = (*Attacher)(nil)

	_ network.Republisher = (*Attacher)(nil)
)

// New returns an Attacher that has no connection yet.
func New(c Config) *Attacher {
	return &Attacher{c: c, ports: noPorts()}
}

// Mode is routed.
func (a *Attacher) Mode() banger.NetworkMode { return banger.NetworkRouted }

// Probe reports whether VMs can be attached: banger-root runs and can work here.
func (a *Attacher) Probe(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ask(ctx, func(r Root) error { return r.Probe(ctx) })
}

// Attach makes the VM's tap, and with it whatever else the host lacks of what
// is wanted, and listens on its published ports. With prev, a VM that runs is mended:
// without banger-root it is as good as its tap, which is there or not; and it goes on
// without a port that somebody else took while no daemon ran.
func (a *Attacher) Attach(ctx context.Context, n network.NIC, prev *banger.Endpoint) (banger.Endpoint, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down.Delete(n.VM)
	ep := banger.Endpoint{
		Tap: a.c.Tap(n.VM), GatewayMAC: a.c.MAC(n.VM),
		SSH: netip.AddrPortFrom(n.Addr, a.c.Port),
	}
	if prev != nil {
		ep.MTU = prev.MTU // the guest was told so when it booted
	} else if n.NAT {
		ep.MTU = a.mtu()
	}
	err := a.publish(n, prev != nil)
	if err == nil {
		err = a.attach(ctx, n)
	}
	if err == nil {
		return ep, nil
	}
	if prev != nil && *prev == ep && absent(err) {
		if there, e := a.c.There(); e == nil && slices.Contains(there, ep.Tap) {
			a.c.Log.Warn("nobody looks after a tap until banger-root runs again", "vm", n.VM, "err", err)
			a.c.Names(true) // the rules lead there
			return ep, nil
		}
	}
	a.unpublish(n.VM)
	return banger.Endpoint{}, err
}

func (a *Attacher) attach(ctx context.Context, n network.NIC) error {
	taps, err := a.wanted(ctx)
	if err != nil {
		return err
	}
	own := network.Tap{VM: n.VM, Addr: n.Addr, Isolated: n.Isolated, NAT: n.NAT, Allow: n.Allow}
	if i := slices.IndexFunc(taps, func(t network.Tap) bool { return t.VM == n.VM }); i >= 0 {
		taps[i] = own
	} else {
		taps = append(taps, own)
	}
	return a.set(ctx, taps)
}

// CheckNAT reports why VMs cannot have NAT: an uplink is missing, or banger-root.
func (a *Attacher) CheckNAT(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, err := a.connect(ctx)
	if err == nil {
		err = r.NAT()
	}
	if err != nil {
		return err
	}
	up, err := a.c.Uplinks()
	if err != nil {
		return err
	}
	if len(up) == 0 {
		return banger.Errorf(banger.HostUnready, "no NAT: the host has no default route").
			WithRemedy("connect the host to a network; VMs that run follow. To see: ip -4 route show default")
	}
	if i := slices.IndexFunc(up, func(u network.Uplink) bool { return !u.Closed }); i < 0 {
		return banger.Errorf(banger.HostUnready, "no NAT: the host forwards, but forwarding is switched off on %s", up[0].Name).
			WithRemedy("sudo sysctl net.ipv4.conf.%s.forwarding=1", up[0].Name)
	}
	return nil
}

// Adjust gives a VM that runs what it is to reach, and takes away the rest.
func (a *Attacher) Adjust(ctx context.Context, n network.NIC) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.attach(ctx, n)
}

// mtu is that of the smallest uplink, 0 for a tap's own: no uplink's is smaller.
func (a *Attacher) mtu() (mtu int) {
	up, err := a.c.Uplinks()
	if err != nil {
		a.c.Log.Warn("look for the uplinks' MTU", "err", err)
	}
	for _, u := range up {
		if u.MTU < tapMTU && (mtu == 0 || u.MTU < mtu) {
			mtu = max(u.MTU, leastMTU)
		}
	}
	return mtu
}

// What a new tap has, and what every IPv4 host takes (RFC 791).
const (
	tapMTU   = 1500
	leastMTU = 576
)

// Detach removes the VM's tap, and what an Attach that failed made on the way to
// it. Where banger-root is not to be had it succeeds all the same: what is left is
// then Pending, and goes with the next Tend that finds banger-root.
func (a *Attacher) Detach(ctx context.Context, n network.NIC) error {
	a.down.Store(n.VM, true)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unpublish(n.VM)
	if left, err := a.left(ctx); err != nil || len(left) == 0 && !a.odd {
		return err
	}
	err := a.sync(ctx)
	if absent(err) {
		a.c.Log.Warn("a tap is left until banger-root runs again", "vm", n.VM, "err", err)
		return nil
	}
	return err
}

// Close ends the connection and frees published ports. What was set stays: VMs outlive
// the daemon.
func (a *Attacher) Close() error {
	defer a.toldAll()
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.ports.led {
		a.unpublish(id)
	}
	return a.hangUp()
}
