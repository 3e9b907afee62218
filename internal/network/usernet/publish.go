package usernet

import (
	"errors"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
)

// CheckPublish implements network.Publisher. VMMs and passt run without
// privilege, also where the daemon is root.
func (a *Attacher) CheckPublish(ports []banger.Publish, isolated bool) error {
	for _, p := range ports {
		if isolated && p.Proto == banger.UDP { // seen: restrict=on drops the answers
			return banger.Errorf(banger.Invalid, "publish %s: an isolated VM cannot answer by UDP in network mode user", p).
				WithRemedy("publish TCP ports only, or leave --isolated out")
		}
	}
	return network.CheckPorts(ports)
}

// checkFree says which of the ports cannot be listened on now, and why.
func (a *Attacher) checkFree(ports []banger.Publish) error {
	for _, p := range ports {
		err := a.free(p.Proto, p.Host)
		switch {
		case err == nil:
		case errors.Is(err, unix.EADDRINUSE) && a.holder(p) != "":
			return banger.Errorf(banger.HostUnready, "publish %s: that port leads to the guest program of VM %s", p, a.holder(p)).
				WithRemedy("publish another port, or start this VM while that one is stopped: it will get another")
		default:
			return network.PortError(p, err)
		}
	}
	return nil
}

// holder is the VM of this process whose guest program is reached at that port.
func (a *Attacher) holder(p banger.Publish) banger.VMID {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.Proto != banger.TCP {
		return ""
	}
	return a.taken[p.Host.Port()]
}

// byUDP reports whether the VM publishes a UDP port.
func byUDP(n network.NIC) bool {
	return slices.ContainsFunc(n.Publish, func(p banger.Publish) bool { return p.Proto == banger.UDP })
}

// publishes reports whether the VM publishes this TCP port, on any address.
func publishes(n network.NIC, port uint16) bool {
	for _, p := range n.Publish {
		if p.Proto == banger.TCP && p.Host.Port() == port {
			return true
		}
	}
	return false
}

// listens tries it.
func listens(proto banger.Proto, at netip.AddrPort) error {
	if proto == banger.UDP {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return err
		}
		return c.Close()
	}
	// Go sets SO_REUSEADDR, as QEMU and passt do: connections that wait in
	// TIME_WAIT do not count, a listener does.
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	return l.Close()
}
