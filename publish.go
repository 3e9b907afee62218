package banger

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// A Publish leads a port of the host to one of a VM's.
type Publish struct {
	Host  netip.AddrPort `json:"host"`  // where the host listens; IPv4
	Guest uint16         `json:"guest"` // port in the guest
	Proto Proto          `json:"protocol"`
}

// An OpenPort is a Publish of a VM that runs.
type OpenPort struct {
	Publish
	By   string `json:"by"`             // who leads there: "kernel", "bangerd", "passt", "qemu"
	Note string `json:"note,omitempty"` // why it is not the kernel, where it could be
}

// A Proto is a transport protocol.
type Proto string

const (
	TCP Proto = "tcp"
	UDP Proto = "udp"
)

// String is how p is written on a command line; ParsePublish reads it.
func (p Publish) String() string {
	s := fmt.Sprintf("%s:%d", p.Host, p.Guest)
	if p.Proto == UDP {
		s += "/udp"
	}
	return s
}

// Valid returns what is wrong with p, as an *Error of code Invalid.
func (p Publish) Valid() error {
	switch {
	case !p.Host.Addr().Is4() || p.Host.Addr().IsMulticast():
		return Errorf(Invalid, "%s is no IPv4 address that the host can listen on", p.Host.Addr())
	case p.Host.Port() == 0 || p.Guest == 0:
		return Errorf(Invalid, "port 0 cannot be published").WithRemedy("ports are 1 to 65535")
	case p.Proto != TCP && p.Proto != UDP:
		return Errorf(Invalid, "no protocol %q", string(p.Proto)).WithRemedy("use tcp or udp")
	}
	return nil
}

// Overlaps reports whether p and q cannot both be had on one host.
func (p Publish) Overlaps(q Publish) bool {
	a, b := p.Host.Addr(), q.Host.Addr()
	return p.Proto == q.Proto && p.Host.Port() == q.Host.Port() && (a == b || a.IsUnspecified() || b.IsUnspecified())
}

// ParsePublish reads [ADDR:]HOST:GUEST[/udp|/tcp]. Without ADDR it is the
// host's loopback.
func ParsePublish(s string) (Publish, error) {
	bad := func(why string) (Publish, error) {
		return Publish{}, Errorf(Invalid, "%q is not a port to publish: %s", s, why).
			WithRemedy("write [ADDR:]HOST:GUEST[/udp], as 8080:80")
	}
	ports, proto, found := strings.Cut(s, "/")
	if !found {
		proto = string(TCP)
	}
	host, guest, found := cutLast(ports)
	if !found {
		return bad("it has no colon")
	}
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if a, port, found := cutLast(host); found {
		var err error
		if addr, err = netip.ParseAddr(a); err != nil {
			return bad(fmt.Sprintf("%q is no address", a))
		}
		host = port
	}
	h, err1 := strconv.ParseUint(host, 10, 16)
	g, err2 := strconv.ParseUint(guest, 10, 16)
	if err1 != nil || err2 != nil {
		return bad("ports are numbers up to 65535")
	}
	p := Publish{Host: netip.AddrPortFrom(addr, uint16(h)), Guest: uint16(g), Proto: Proto(proto)}
	return p, p.Valid()
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
