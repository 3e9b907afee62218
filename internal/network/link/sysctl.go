package link

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// A sysctl of one link: net.FAMILY.conf.LINK.KEY.
type sysctl struct{ family, key, value string }

// quiet keeps IPv6 away, which a new link otherwise has: a guest would reach
// what the host serves on [::] by link-local addresses.
var quiet = []sysctl{
	{"ipv6", "disable_ipv6", "1"},
	{"ipv6", "accept_ra", "0"},
}

// guarded is what a tap has before it is up. Forwarding counts on the link that
// a packet comes in by, whatever the host's ip_forward says.
var guarded = append(quiet[:len(quiet):len(quiet)],
	sysctl{"ipv4", "accept_local", "0"},
	sysctl{"ipv4", "route_localnet", "0"},
	sysctl{"ipv4", "accept_redirects", "0"},
	sysctl{"ipv4", "proxy_arp", "0"},
	sysctl{"ipv4", "rp_filter", "1"},
	sysctl{"ipv4", "forwarding", "1"},
)

// setSysctls writes those that differ. A kernel without IPv6 lacks its files.
func (s *setter) setSysctls(link string, all []sysctl) error {
	for _, c := range all {
		path := fmt.Sprintf("/proc/sys/net/%s/conf/%s/%s", c.family, link, c.key)
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && c.family == "ipv6" {
			continue
		}
		if err != nil {
			return err
		}
		if string(bytes.TrimSpace(b)) == c.value {
			continue
		}
		if err := s.do("set "+c.key, func() error { return os.WriteFile(path, []byte(c.value), 0) }); err != nil {
			return err
		}
	}
	return nil
}
