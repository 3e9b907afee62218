// Package usernet is network mode user, which needs no privilege. A VM's network
// is a passt of its own where that is installed and works, else the VMM's own
// stack (QEMU's -netdev user), which it only plans. Either leads ports of the
// host to the guest: one of the loopback to the guest program, and those that
// the VM publishes.
package usernet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"sync"

	"banger"
	"banger/internal/host"
	"banger/internal/network"
	"banger/internal/network/usernet/passt"
)

// Stacks that a configuration names, and Endpoint.Stack tells.
const (
	StackAuto  = "auto" // passt where it works, else qemu
	StackPasst = "passt"
	StackQEMU  = "qemu"
)

// A Config is all that an Attacher works with.
type Config struct {
	Stack     string
	Passt     *passt.Passt                  // nil: none, as in tests
	Place     func(banger.VMID) passt.Place // of a VM's passt, without its owner; nil with it
	GuestPort uint16                        // of the guest program
	Log       *slog.Logger                  // nil: none
}

// An Attacher keeps what each VM of this process has, from Attach to Detach.
// Make one with New. A VM is attached and detached by one caller at a time.
type Attacher struct {
	c     Config
	ports []uint16                                 // to choose from
	free  func(banger.Proto, netip.AddrPort) error // why it cannot be listened on right now

	mu     sync.Mutex
	taken  map[uint16]banger.VMID
	links  map[banger.VMID]*link
	broken error // why passt did not come up when a VM was last started
}

// A link is a VM's passt.
type link struct {
	ep   banger.Endpoint
	proc *passt.Process // nil: it was gone when an earlier daemon's was looked for
	gone <-chan struct{}
}

func (l *link) alive() bool {
	select {
	case <-l.gone:
		return false
	default:
		return true
	}
}

var (
	_ network.Attacher  = (*Attacher)(nil)
	_ network.Publisher = (*Attacher)(nil)
	_ network.Fragile   = (*Attacher)(nil)
)

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// New returns an Attacher that keeps out of the host's ephemeral port range,
// from which the kernel gives ports to outgoing connections.
func New(c Config) *Attacher {
	if c.Place == nil {
		c.Place = func(banger.VMID) passt.Place { return passt.Place{} }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Attacher{c: c, ports: candidates(ephemeral()), free: listens, taken: map[uint16]banger.VMID{}, links: map[banger.VMID]*link{}}
}

// Mode is user.
func (a *Attacher) Mode() banger.NetworkMode { return banger.NetworkUser }

// Probe has nothing to ask for: the mode needs no privilege.
func (a *Attacher) Probe(context.Context) error { return nil }

// Attach reserves a port until Detach: the one that prev has, unless another VM
// of this process holds it, else a free one, beginning at one that follows from
// the VM's ID so that a VM mostly keeps its own. A prev's ports are not tried: if
// its VM lives, its network listens there. Without a prev the network is made, or
// planned, and what the VM publishes must be free.
//
// On the VMM's own stack another program may take a port between here and its
// launch; then the launch fails, and the next Attach finds another.
func (a *Attacher) Attach(ctx context.Context, n network.NIC, prev *banger.Endpoint) (banger.Endpoint, error) {
	if err := context.Cause(ctx); err != nil {
		return banger.Endpoint{}, err
	}
	if l := a.link(n.VM); l != nil && (prev == nil && l.alive() || prev != nil && same(*prev, l.ep)) {
		return l.ep, nil
	}
	port, kept, err := a.reserve(n, prev)
	if err != nil {
		return banger.Endpoint{}, err
	}
	switch {
	case kept && prev.Stack == StackPasst:
		return *prev, a.adopt(n, *prev)
	case kept:
		ep := builtin(n, port)
		ep.Note = prev.Note
		return ep, nil
	}
	if err := a.checkFree(n.Publish); err != nil {
		return banger.Endpoint{}, err
	}
	return a.make(ctx, n, port)
}

// make launches passt, or plans the VMM's own stack.
func (a *Attacher) make(ctx context.Context, n network.NIC, port uint16) (banger.Endpoint, error) {
	if n.Isolated || a.c.Stack == StackQEMU || a.c.Passt == nil {
		return builtin(n, port), nil
	}
	if err := fits(n); err != nil {
		if a.c.Stack == StackPasst {
			return banger.Endpoint{}, err
		}
		return a.instead(n, port, err), nil
	}
	ep := a.byPasst(n, port)
	proc, err := a.c.Passt.Start(ctx, a.net(n, port), a.place(n))
	if err == nil {
		a.keepLink(n.VM, &link{ep: ep, proc: proc, gone: proc.Gone()})
		a.note(nil)
		return ep, nil
	}
	err = fmt.Errorf("start passt: %w", err)
	if ctx.Err() != nil || a.c.Stack == StackPasst {
		return banger.Endpoint{}, err
	}
	a.note(err)
	return a.instead(n, port, err), nil
}

// instead is the endpoint of a VM that would be on passt, but for err. Who has no
// passt is told by doctor, not at each start.
func (a *Attacher) instead(n network.NIC, port uint16, err error) banger.Endpoint {
	a.c.Log.Info("QEMU's own user networking is used", "vm", n.VM, "why", err)
	ep := builtin(n, port)
	if !errors.Is(err, host.ErrMissing) {
		ep.Note = fmt.Sprintf("QEMU's own stack, over which the guest reaches the host's loopback (127.0.0.1): %v", err)
	}
	return ep
}

// fits says why passt is nothing for a VM.
func fits(n network.NIC) error {
	const remedy = "set user = \"auto\" under [network] in the configuration"
	switch {
	case !n.Stream:
		return banger.Errorf(banger.HostUnready, "this QEMU cannot be joined to passt: it can since 7.2").WithRemedy(remedy)
	case byUDP(n):
		// Debian 12's shows a datagram from the host's loopback as the gateway's,
		// and with --no-map-gw sends the answer to whoever has that address.
		return banger.Errorf(banger.HostUnready, "passt does not lead answers by UDP back to the host's loopback").WithRemedy(remedy)
	}
	return nil
}

// adopt finds the passt that an earlier daemon launched. One that is gone is
// kept as lost: its VM lives, and is to be told of.
func (a *Attacher) adopt(n network.NIC, ep banger.Endpoint) error {
	if a.c.Passt == nil {
		return banger.Errorf(banger.HostUnready, "this bangerd cannot look after passt")
	}
	proc, err := a.c.Passt.Find(a.place(n))
	l := &link{ep: ep, proc: proc}
	switch {
	case errors.Is(err, host.ErrGone):
		gone := make(chan struct{})
		close(gone)
		l.gone = gone
	case err != nil:
		return err
	default:
		l.gone = proc.Gone()
	}
	a.keepLink(n.VM, l)
	return nil
}

// Lost implements network.Fragile.
func (a *Attacher) Lost(vm banger.VMID) (<-chan struct{}, func() error) {
	l := a.link(vm)
	if l == nil {
		return nil, nil
	}
	return l.gone, func() error {
		err := banger.Errorf(banger.HostUnready, "its network is gone: passt ended while bangerd was not running")
		if l.proc != nil {
			err = banger.Errorf(banger.HostUnready, "its network is gone: %w", l.proc.Why())
		}
		return err.WithRemedy("banger vm restart %s", vm)
	}
}

// Detach ends what Attach made and gives the ports back. What the VMM itself
// listened on went with it.
func (a *Attacher) Detach(ctx context.Context, n network.NIC) error {
	if l := a.link(n.VM); l != nil && l.proc != nil {
		if err := l.proc.End(ctx); err != nil {
			return err
		}
	}
	if a.c.Passt != nil {
		if err := a.c.Passt.Clear(ctx, a.place(n)); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.links, n.VM)
	a.release(n.VM)
	return nil
}

func (a *Attacher) link(vm banger.VMID) *link {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.links[vm]
}

func (a *Attacher) keepLink(vm banger.VMID, l *link) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.links[vm] = l
}

func (a *Attacher) note(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.broken = err
}

func (a *Attacher) place(n network.NIC) passt.Place {
	at := a.c.Place(n.VM)
	at.Owner = n.Owner
	return at
}

func (a *Attacher) net(n network.NIC, port uint16) passt.Net {
	ssh := banger.Publish{Host: netip.AddrPortFrom(loopback, port), Guest: a.c.GuestPort, Proto: banger.TCP}
	return passt.Net{
		Addr: n.Addr, Gateway: n.Net.Gateway, Resolver: n.Net.Resolver, Bits: n.Net.Prefix.Bits(),
		Ports: append([]banger.Publish{ssh}, n.Publish...),
	}
}

// builtin is the endpoint of a VM on its VMM's own stack.
func builtin(n network.NIC, port uint16) banger.Endpoint {
	return banger.Endpoint{
		User: &banger.UserNet{
			Subnet: n.Net.Prefix, Gateway: n.Net.Gateway, Resolver: n.Net.Resolver,
			Isolated: n.Isolated, Publish: n.Publish,
		},
		Stack: StackQEMU,
		SSH:   netip.AddrPortFrom(loopback, port),
	}
}

// byPasst is the endpoint of a VM that is joined to its passt.
func (a *Attacher) byPasst(n network.NIC, port uint16) banger.Endpoint {
	return banger.Endpoint{Socket: a.c.Place(n.VM).Socket, Stack: StackPasst, SSH: netip.AddrPortFrom(loopback, port)}
}

// same compares two endpoints, but for what is said about them. One that was
// recorded before stacks had names is the VMM's own.
func same(a, b banger.Endpoint) bool {
	name := func(e banger.Endpoint) banger.Endpoint {
		e.Note = ""
		if e.Stack == "" && e.User != nil {
			e.Stack = StackQEMU
		}
		if e.User != nil {
			u := *e.User
			u.Publish = append([]banger.Publish{}, u.Publish...) // nil is no difference
			e.User = &u
		}
		return e
	}
	return reflect.DeepEqual(name(a), name(b))
}
