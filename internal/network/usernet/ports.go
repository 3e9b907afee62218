package usernet

import (
	"os"
	"strconv"
	"strings"
)

// A span is a range of ports, both ends included.
type span struct{ low, high int }

// preferred lies below Linux's default ephemeral range (32768 to 60999) and
// above what services usually listen on; wider is for hosts that moved it.
var (
	preferred = span{20000, 32767}
	wider     = span{10000, 65535}
)

const rangeFile = "/proc/sys/net/ipv4/ip_local_port_range"

// ephemeral reads the kernel's range; Linux's default where it cannot.
func ephemeral() span {
	text, err := os.ReadFile(rangeFile)
	if err != nil {
		return span{32768, 60999}
	}
	return parseRange(string(text))
}

// parseRange reads "32768	60999".
func parseRange(text string) span {
	f := strings.Fields(text)
	if len(f) == 2 {
		low, err1 := strconv.Atoi(f[0])
		high, err2 := strconv.Atoi(f[1])
		if err1 == nil && err2 == nil && 0 < low && low <= high && high <= 65535 {
			return span{low, high}
		}
	}
	return span{32768, 60999}
}

// candidates returns the ports to choose from, ascending: preferred ones
// outside avoid, else wider ones. Where avoid leaves nothing, it is ignored:
// such a port may be in use for a moment, and is then passed over.
func candidates(avoid span) []uint16 {
	for _, from := range []span{preferred, wider} {
		if p := without(from, avoid); len(p) >= 1000 {
			return p
		}
	}
	return without(preferred, span{0, 0})
}

func without(s, avoid span) (ports []uint16) {
	for p := s.low; p <= s.high; p++ {
		if p < avoid.low || p > avoid.high {
			ports = append(ports, uint16(p))
		}
	}
	return ports
}
