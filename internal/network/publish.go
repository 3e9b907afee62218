package network

import (
	"errors"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"banger"
)

// MaxPorts bounds the Ports of one installation: they travel as descriptors of one
// message, of which the kernel passes 253 (SCM_MAX_FD).
const MaxPorts = 128

// A Port of the host is led to a VM by the kernel, as far as what is sent there comes
// in by an uplink and would be the Socket's. Who asks for it holds the Socket; whoever
// does it reads from that, and from nothing else, which port it is.
type Port struct {
	VM    banger.VMID `json:"vm"`
	Guest uint16      `json:"guest"` // port in the guest

	Socket syscall.Conn   `json:"-"` // of the one who asks: bound, and listening if it is TCP
	Host   netip.AddrPort `json:"-"` // what it is bound to
	Proto  banger.Proto   `json:"-"`
}

const unprivilegedFile = "/proc/sys/net/ipv4/ip_unprivileged_port_start"

// FirstPort is the first that everybody may listen on; Linux's default where it
// cannot be read.
func FirstPort() uint16 {
	text, err := os.ReadFile(unprivilegedFile)
	if err == nil {
		var n uint64
		if n, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 16); err == nil {
			return uint16(n)
		}
	}
	return 1024
}

// CheckPorts refuses ports that not everybody may listen on, as HostUnready; also
// where the daemon is root, so that a VM's ports are the same for all.
func CheckPorts(ports []banger.Publish) error {
	low := FirstPort()
	for _, p := range ports {
		if p.Host.Port() < low {
			return banger.Errorf(banger.HostUnready, "port %d of the host is privileged: VMs run without the right to listen on it", p.Host.Port()).
				WithRemedy("publish a port from %d on, or let all users have it: sudo sysctl net.ipv4.ip_unprivileged_port_start=%d", low, p.Host.Port())
		}
	}
	return nil
}

// PortError says why a port cannot be listened on, as HostUnready with a remedy; err
// is what the kernel says.
func PortError(p banger.Publish, err error) error {
	switch {
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
	}
	return banger.Errorf(banger.HostUnready, "publish %s: %w", p, err).WithRemedy("publish another port")
}
