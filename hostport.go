package banger

import (
	"strconv"
	"strings"
)

// HostName is what a guest calls the host, below the zone of VMs, where a port of
// the host is open to it. No VM has this name.
const HostName = "host"

// A HostPort is a port of the host that a VM is let to. As text, in JSON too, it is
// PORT/tcp or PORT/udp.
type HostPort struct {
	Port  uint16
	Proto Proto
}

// String is how p is written; ParseHostPort reads it.
func (p HostPort) String() string { return strconv.Itoa(int(p.Port)) + "/" + string(p.Proto) }

// ParseHostPort reads PORT[/udp|/tcp]. Its error is an *Error of code Invalid.
func ParseHostPort(s string) (HostPort, error) {
	port, proto, found := strings.Cut(s, "/")
	if !found {
		proto = string(TCP)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	p := HostPort{Port: uint16(n), Proto: Proto(proto)}
	if err != nil || n == 0 || p.Proto != TCP && p.Proto != UDP {
		if len(s) > 40 {
			s = s[:40] + "…"
		}
		return HostPort{}, Errorf(Invalid, "%q is no port of the host", s).WithRemedy("write PORT or PORT/udp, as 5432; ports are 1 to 65535")
	}
	return p, nil
}

// MarshalText implements encoding.TextMarshaler.
func (p HostPort) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler: what it accepts is valid.
func (p *HostPort) UnmarshalText(b []byte) (err error) {
	*p, err = ParseHostPort(string(b))
	return err
}
