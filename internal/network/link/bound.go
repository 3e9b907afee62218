package link

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"banger"
	"banger/internal/network"
)

// Bound are those of ports that the Router's user may still have: all of TCP, and of UDP
// where a socket of the user's is bound as it was when it was claimed. Where one is gone
// the rules lead nobody new, but the kernel leads who came before for as long as he is
// not silent, whoever has the port by then: an Apply without it ends that.
func (r *Router) Bound(ports []network.Port) (still []network.Port, err error) {
	b, err := os.ReadFile("/proc/thread-self/net/udp")
	if err != nil {
		return ports, err
	}
	bound := map[netip.AddrPort]bool{}
	for line := range strings.Lines(string(b)) {
		const local, uid = 1, 7 // columns: proc(5)
		if f := strings.Fields(line); len(f) > uid && f[uid] == strconv.FormatUint(uint64(r.uid), 10) {
			var a [4]byte
			var at, port uint32
			if _, err := fmt.Sscanf(f[local], "%8X:%4X", &at, &port); err == nil {
				binary.NativeEndian.PutUint32(a[:], at)
				bound[netip.AddrPortFrom(netip.AddrFrom4(a), uint16(port))] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(ports), func(p network.Port) bool { return p.Proto == banger.UDP && !bound[p.Host] }), nil
}
