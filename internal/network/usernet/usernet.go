// Package usernet is network mode user on the VMM's own stack (QEMU's
// -netdev user): no privilege, no other process. It plans what the VMM will
// make: a port of the host's loopback that leads to the guest program.
package usernet

import (
	"context"
	"hash/fnv"
	"net"
	"net/netip"
	"sync"

	"banger"
	"banger/internal/network"
)

// Notes is what doctor and errors say of this mode.
const Notes = "network mode user lets a guest reach the host's loopback (127.0.0.1, through the gateway's address) and its other addresses: run nothing in a VM that those services must not meet"

// An Attacher reserves a port per VM. Make one with New.
type Attacher struct {
	ports []uint16                  // to choose from
	free  func(netip.AddrPort) bool // can it be listened on right now?

	mu    sync.Mutex
	taken map[uint16]banger.VMID // by this process, from Attach to Detach
}

var _ network.Attacher = (*Attacher)(nil)

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// New returns an Attacher that keeps out of the host's ephemeral port range,
// from which the kernel gives ports to outgoing connections.
func New() *Attacher {
	return &Attacher{ports: candidates(ephemeral()), free: listens, taken: map[uint16]banger.VMID{}}
}

// Mode is user.
func (a *Attacher) Mode() banger.NetworkMode { return banger.NetworkUser }

// Probe has nothing to ask for: the mode needs no privilege.
func (a *Attacher) Probe(context.Context) error { return nil }

// Attach reserves a port until Detach: the one that prev has, unless another VM
// of this process holds it, else a free one, beginning at one that follows from
// the VM's ID so that a VM mostly keeps its own. A prev's port is not tried: if
// its VM lives, its VMM listens there.
//
// Between here and the VMM's launch another program may take the port; then the
// launch fails, and the next Attach finds another.
func (a *Attacher) Attach(ctx context.Context, n network.NIC, prev *banger.Endpoint) (banger.Endpoint, error) {
	if err := context.Cause(ctx); err != nil {
		return banger.Endpoint{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	port, ok := a.keep(n, prev)
	if !ok {
		port, ok = a.pick(n.VM)
	}
	if !ok {
		return banger.Endpoint{}, banger.Errorf(banger.HostUnready, "no free port on %s among the %d from %d to %d", loopback, len(a.ports), a.ports[0], a.ports[len(a.ports)-1]).
			WithRemedy("see who listens: ss -ltnp")
	}
	a.release(n.VM)
	a.taken[port] = n.VM
	return endpoint(n, port), nil
}

// Detach gives the port back. The socket itself is the VMM's and went with it.
func (a *Attacher) Detach(_ context.Context, n network.NIC) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.release(n.VM)
	return nil
}

func (a *Attacher) release(vm banger.VMID) {
	for port, holder := range a.taken {
		if holder == vm {
			delete(a.taken, port)
		}
	}
}

// keep returns the port that the VM has already: prev's, if all the rest of
// prev is still what this VM would get, or the one reserved for it.
func (a *Attacher) keep(n network.NIC, prev *banger.Endpoint) (uint16, bool) {
	if prev != nil && prev.SSH.Port() != 0 && same(*prev, endpoint(n, prev.SSH.Port())) {
		holder, held := a.taken[prev.SSH.Port()]
		return prev.SSH.Port(), !held || holder == n.VM
	}
	for port, holder := range a.taken {
		if holder == n.VM {
			return port, true
		}
	}
	return 0, false
}

func (a *Attacher) pick(vm banger.VMID) (uint16, bool) {
	h := fnv.New32a()
	h.Write([]byte(vm)) // never fails
	start := int(h.Sum32() % uint32(len(a.ports)))
	for i := range a.ports {
		port := a.ports[(start+i)%len(a.ports)]
		if _, held := a.taken[port]; !held && a.free(netip.AddrPortFrom(loopback, port)) {
			return port, true
		}
	}
	return 0, false
}

func endpoint(n network.NIC, port uint16) banger.Endpoint {
	return banger.Endpoint{
		User: &banger.UserNet{Subnet: n.Net.Prefix, Gateway: n.Net.Gateway, Resolver: n.Net.Resolver},
		SSH:  netip.AddrPortFrom(loopback, port),
	}
}

func same(a, b banger.Endpoint) bool {
	return a.Tap == b.Tap && a.SSH == b.SSH && a.User != nil && b.User != nil && *a.User == *b.User
}

// listens tries it. Go sets SO_REUSEADDR, as QEMU does: connections that wait
// in TIME_WAIT do not count, a listener does.
func listens(at netip.AddrPort) bool {
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
