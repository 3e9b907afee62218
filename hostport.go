package banger

import (
	"fmt"
	"strconv"
	"strings"
)

// HostName is what a guest calls the host, below the zone of VMs, where a port of
// the host is open to it. No VM has this name.
const HostName = "host"

// A HostPort is a port of the host.
type HostPort struct {
	Port  uint16 `json:"port"`
	Proto Proto  `json:"protocol"`
}

// String is how p is written on a command line; ParseHostPort reads it.
func (p HostPort) String() string {
	if p.Proto == UDP {
		return fmt.Sprintf("%d/udp", p.Port)
	}
	return strconv.Itoa(int(p.Port))
}

// Valid returns what is wrong with p, as an *Error of code Invalid.
func (p HostPort) Valid() error {
	if p.Port == 0 || p.Proto != TCP && p.Proto != UDP {
		return Errorf(Invalid, "%d/%.10q is no port of the host", p.Port, string(p.Proto)).WithRemedy("ports are 1 to 65535, of tcp or udp")
	}
	return nil
}

// ParseHostPort reads PORT[/udp|/tcp].
func ParseHostPort(s string) (HostPort, error) {
	port, proto, found := strings.Cut(s, "/")
	if !found {
		proto = string(TCP)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	p := HostPort{Port: uint16(n), Proto: Proto(proto)}
	if err != nil || p.Valid() != nil {
		return HostPort{}, Errorf(Invalid, "%.40q is no port of the host", s).WithRemedy("write PORT or PORT/udp, as 5432; ports are 1 to 65535")
	}
	return p, nil
}
