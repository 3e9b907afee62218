package host

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxSocketTable bounds what is read of one of /proc/net's tables, bytes.
const maxSocketTable = 16 << 20

// Holder says who has an IPv4 port that cannot be had, by TCP or UDP, as
// "dnsmasq (process 812)"; "" where that cannot be seen: it is another user's
// process, or has gone.
func Holder(at netip.AddrPort) string {
	sockets := map[string]bool{}
	for _, table := range []string{"tcp", "udp"} {
		b, err := readSome("/proc/net/"+table, maxSocketTable)
		if err == nil {
			holders(string(b), table, at, sockets)
		}
	}
	if len(sockets) == 0 {
		return ""
	}
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return ""
	}
	for _, d := range dirs {
		if _, err := strconv.Atoi(d.Name()); err == nil && holds(d.Name(), sockets) {
			comm, err := readSome("/proc/"+d.Name()+"/comm", 64)
			if err == nil {
				return fmt.Sprintf("%s (process %s)", Escape(strings.TrimSpace(string(comm))), d.Name())
			}
		}
	}
	return ""
}

// holders adds the sockets of a table of /proc/net that keep others from listening
// at an address, as links in /proc/PID/fd name them.
func holders(table, kind string, at netip.AddrPort, sockets map[string]bool) {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		const listens = "0A"
		if len(f) < 10 || kind == "tcp" && f[3] != listens {
			continue
		}
		a, ok := socketAddr(f[1])
		if ok && a.Port() == at.Port() && (a.Addr() == at.Addr() || a.Addr().IsUnspecified() || at.Addr().IsUnspecified()) {
			sockets["socket:["+f[9]+"]"] = true
		}
	}
}

// socketAddr reads an address of /proc/net/tcp: 0100007F:A455, the address in the
// host's byte order.
func socketAddr(s string) (netip.AddrPort, bool) {
	addr, port, _ := strings.Cut(s, ":")
	a, err1 := strconv.ParseUint(addr, 16, 32)
	p, err2 := strconv.ParseUint(port, 16, 16)
	if err1 != nil || err2 != nil {
		return netip.AddrPort{}, false
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(a))
	return netip.AddrPortFrom(netip.AddrFrom4(b), uint16(p)), true
}

func holds(pid string, sockets map[string]bool) bool {
	fds, err := filepath.Glob("/proc/" + pid + "/fd/*")
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && sockets[to] {
			return true
		}
	}
	return false
}
