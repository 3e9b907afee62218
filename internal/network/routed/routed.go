// Package routed is network mode routed: a tap and a host route for each VM,
// made by whoever may (banger-root, through a network.Router). It computes what
// the host should have from the records, and holds the connection to the Router
// while a VM has something of it. It starts no process and touches no link.
package routed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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
	root Root  // nil: no connection
	odd  bool  // the last Set failed: what the host has is neither the old nor the new
	told error // why the host's resolver could not be told where names are known

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

// Pending are the links that nobody wants any more and that are there still.
func (a *Attacher) Pending(ctx context.Context) ([]string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.left(ctx)
}

func (a *Attacher) left(ctx context.Context) ([]string, error) {
	taps, err := a.wanted(ctx)
	if err != nil {
		return nil, err
	}
	there, err := a.c.There()
	return slices.DeleteFunc(there, func(name string) bool {
		return name == a.c.Gateway && len(taps) > 0 ||
			slices.ContainsFunc(taps, func(t network.Tap) bool { return a.c.Tap(t.VM) == name })
	}), err
}

// Tend is called from time to time. Where there is, or should be, something of
// banger-root's on the host and no connection to it, it tries to make one and
// sets all that is wanted again.
func (a *Attacher) Tend(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.connected() {
		return nil
	}
	taps, err := a.wanted(ctx)
	if err != nil {
		return err
	}
	if len(taps) == 0 && !a.odd {
		if there, err := a.c.There(); err != nil || len(there) == 0 {
			return err
		}
	}
	if err := a.set(ctx, taps); err != nil && banger.CodeOf(err) != banger.NeedsRoot {
		return err
	}
	return nil
}

// Close ends the connection and frees published ports. What was set stays: VMs outlive
// the daemon.
func (a *Attacher) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.ports.led {
		a.unpublish(id)
	}
	return a.hangUp()
}

// wanted are the taps that the records ask for, but for those of VMs that were
// detached: their run is recorded until all of it is taken down.
func (a *Attacher) wanted(ctx context.Context) ([]network.Tap, error) {
	taps, err := a.c.Wanted(ctx)
	if err != nil {
		return nil, fmt.Errorf("read which taps are wanted: %w", err)
	}
	return slices.DeleteFunc(taps, func(t network.Tap) bool {
		_, down := a.down.Load(t.VM)
		return down
	}), nil
}

func (a *Attacher) sync(ctx context.Context) error {
	taps, err := a.wanted(ctx)
	if err != nil {
		return err
	}
	return a.set(ctx, taps)
}

// set makes the host have exactly these taps. The connection is held while
// there are any, so that banger-root stays and looks after them.
func (a *Attacher) set(ctx context.Context, taps []network.Tap) error {
	if len(taps) == 0 {
		a.c.Names(false) // whatever becomes of the rest
	}
	slices.SortFunc(taps, func(x, y network.Tap) int { return x.Addr.Compare(y.Addr) })
	err := a.ask(ctx, func(r Root) error {
		c := network.Config{Tag: a.c.Tag, Subnet: a.c.Subnet().Prefix, Taps: taps}
		if len(taps) > 0 {
			c.Names = a.c.Names(true)
		}
		err := a.setWithPorts(ctx, r, c)
		a.odd = err != nil
		if err == nil && len(taps) > 0 {
			a.tell(ctx, r)
		}
		return err
	})
	if err == nil && len(taps) > 0 {
		return nil
	}
	if err != nil {
		err = fmt.Errorf("set the host's network: %w", err)
	}
	return errors.Join(err, a.hangUp())
}

// TellHost has the host's resolver told anew, since where names are known has
// changed. Where this installation has no network there is nobody to tell.
func (a *Attacher) TellHost(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.connected() {
		a.tell(ctx, a.root)
	}
}

// Told is why the host's resolver does not know of the names; nil if it does, or
// was not to be told.
func (a *Attacher) Told() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.told
}

// tell is an attempt: no VM depends on its name.
func (a *Attacher) tell(ctx context.Context, r Root) {
	a.told = nil
	at := a.c.HostAsks()
	if !at.IsValid() {
		return
	}
	if a.told = r.Resolve(ctx, a.c.Tag, at); a.told != nil {
		a.c.Log.Warn("the host does not know of the VMs' names", "err", a.told)
	}
}

// A process that was killed takes connections for an instant more.
const (
	asks  = 5
	pause = 20 * time.Millisecond
)

// ask asks banger-root, and again if the connection is lost: it may have been for
// long and unseen, or banger-root died over what it was asked. All of that may be
// asked again.
func (a *Attacher) ask(ctx context.Context, what func(Root) error) error {
	for n := 1; ; n++ {
		r, err := a.connect(ctx)
		if err != nil {
			return unreached{err}
		}
		if err = what(r); banger.CodeOf(err) != banger.NeedsRoot || n == asks {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// unreached is why there is no connection to banger-root.
type unreached struct{ error }

func (e unreached) Unwrap() error { return e.error }

// absent reports whether banger-root is not to be had, or died over a request.
func absent(err error) bool {
	return errors.As(err, new(unreached)) || banger.CodeOf(err) == banger.NeedsRoot
}

// connect returns the connection, a new one where there is none or it was lost.
func (a *Attacher) connect(ctx context.Context) (Root, error) {
	if a.connected() {
		return a.root, nil
	}
	if err := a.hangUp(); err != nil {
		a.c.Log.Warn("close the connection to banger-root", "err", err)
	}
	r, err := a.c.Dial(ctx)
	if err != nil {
		return nil, err
	}
	a.root = r
	return r, nil
}

func (a *Attacher) connected() bool {
	if a.root == nil {
		return false
	}
	select {
	case <-a.root.Done():
		return false
	default:
		return true
	}
}

func (a *Attacher) hangUp() error {
	if a.root == nil {
		return nil
	}
	r := a.root
	a.root = nil
	return r.Close()
}
