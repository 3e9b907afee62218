package usernet

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
)

// CheckPublish implements network.Publisher. VMMs and passt run without
// privilege, also where the daemon is root.
func (a *Attacher) CheckPublish(ports []banger.Publish, isolated bool) error {
	low := unprivileged()
	for _, p := range ports {
		if isolated && p.Proto == banger.UDP { // seen: restrict=on drops the answers
			return banger.Errorf(banger.Invalid, "publish %s: an isolated VM cannot answer by UDP in network mode user", p).
				WithRemedy("publish TCP ports only, or leave --isolated out")
		}
		if p.Host.Port() < low {
			return banger.Errorf(banger.HostUnready, "port %d of the host is privileged: VMs run without the right to listen on it", p.Host.Port()).
				WithRemedy("publish a port from %d on, or let all users have it: sudo sysctl net.ipv4.ip_unprivileged_port_start=%d", low, p.Host.Port())
		}
	}
	return nil
}

const unprivilegedFile = "/proc/sys/net/ipv4/ip_unprivileged_port_start"

// unprivileged is the first port that everybody may listen on; Linux's default
// where it cannot be read.
func unprivileged() uint16 {
	text, err := os.ReadFile(unprivilegedFile)
	if err == nil {
		var n uint64
		if n, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 16); err == nil {
			return uint16(n)
		}
	}
	return 1024
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
		case errors.Is(err, unix.EADDRINUSE):
			flag := "t"
			if p.Proto == banger.UDP {
				flag = "u"
			}
			return banger.Errorf(banger.HostUnready, "publish %s: another program listens on that port of the host", p).
				WithRemedy("see which: ss -l%snp 'sport = :%d'; or publish another port", flag, p.Host.Port())
		case errors.Is(err, unix.EADDRNOTAVAIL):
			return banger.Errorf(banger.HostUnready, "publish %s: the host has no address %s", p, p.Host.Addr()).
				WithRemedy("ip address shows what it has; 0.0.0.0 means all of them")
		default:
			return banger.Errorf(banger.HostUnready, "publish %s: %w", p, err).WithRemedy("publish another port")
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
