package link

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
)

// quiet keeps IPv6 away, which a new link otherwise has: a guest would reach
// what the host serves on [::] by link-local addresses.
const quiet = "ipv6/disable_ipv6=1 ipv6/accept_ra=0"

// guarded is what a tap has before it is up. Forwarding counts on the link that
// a packet comes in by, whatever the host's ip_forward says.
const guarded = quiet + " ipv4/accept_local=0 ipv4/route_localnet=0 ipv4/accept_redirects=0 ipv4/proxy_arp=0 ipv4/rp_filter=1 ipv4/forwarding=1"

// setSysctls writes those of a link that differ. A kernel without IPv6 lacks its
// files.
func (s *setter) setSysctls(link, all string) {
	for _, c := range strings.Fields(all) {
		name, value, _ := strings.Cut(c, "=")
		family, key, _ := strings.Cut(name, "/")
		path := "/proc/sys/net/" + family + "/conf/" + link + "/" + key
		now, err := os.ReadFile(path)
		there := err == nil || family == "ipv4" || !errors.Is(err, fs.ErrNotExist)
		s.do(there && string(bytes.TrimSpace(now)) != value, "set "+key, func() error { return os.WriteFile(path, []byte(value), 0) })
	}
}
