package usernet

import (
	"hash/fnv"
	"net/netip"

	"banger"
	"banger/internal/network"
)

// release gives a VM's port back. a.mu is held.
func (a *Attacher) release(vm banger.VMID) {
	for port, holder := range a.taken {
		if holder == vm {
			delete(a.taken, port)
		}
	}
}

// reserve returns the VM's port for the guest program; kept: it is prev's, and
// all the rest of prev still holds.
func (a *Attacher) reserve(n network.NIC, prev *banger.Endpoint) (port uint16, kept bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	port, kept = a.keep(n, prev)
	ok := kept
	if !ok {
		port, ok = a.pick(n)
	}
	if !ok {
		return 0, false, banger.Errorf(banger.HostUnready, "no free port on %s among the %d from %d to %d", loopback, len(a.ports), a.ports[0], a.ports[len(a.ports)-1]).
			WithRemedy("see who listens: ss -ltnp")
	}
	a.release(n.VM)
	a.taken[port] = n.VM
	return port, kept, nil
}

// keep returns prev's port, if all of prev is still what this VM would get.
func (a *Attacher) keep(n network.NIC, prev *banger.Endpoint) (uint16, bool) {
	if prev == nil || prev.SSH.Port() == 0 {
		return 0, false
	}
	port := prev.SSH.Port()
	if !same(*prev, builtin(n, port)) && !same(*prev, a.byPasst(n, port)) {
		return 0, false
	}
	holder, held := a.taken[port]
	return port, !held || holder == n.VM
}

// pick chooses a port that is free and that the VM does not publish: passt takes
// a port once, whatever the address.
func (a *Attacher) pick(n network.NIC) (uint16, bool) {
	for port, holder := range a.taken {
		if holder == n.VM && !publishes(n, port) {
			return port, true
		}
	}
	h := fnv.New32a()
	h.Write([]byte(n.VM)) // never fails
	start := int(h.Sum32() % uint32(len(a.ports)))
	for i := range a.ports {
		port := a.ports[(start+i)%len(a.ports)]
		if _, held := a.taken[port]; !held && !publishes(n, port) && a.free(banger.TCP, netip.AddrPortFrom(loopback, port)) == nil {
			return port, true
		}
	}
	return 0, false
}
