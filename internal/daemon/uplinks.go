package daemon

import (
	"fmt"
	"os"
	"strings"

	"banger/internal/network"
	"banger/internal/network/link"
)

// uplinks are the links by which the host reaches the world.
func uplinks() ([]network.Uplink, error) {
	links, err := link.Uplinks()
	if err != nil {
		return nil, fmt.Errorf("look for the host's uplinks: %w", err)
	}
	var up []network.Uplink
	everywhere := forwards("all")
	for _, l := range links {
		a := l.Attrs()
		up = append(up, network.Uplink{Name: a.Name, MTU: a.MTU, Closed: everywhere && !forwards(a.Name)})
	}
	return up, nil
}

// forwards reports whether IPv4 that comes in by a link, or by "all", is forwarded.
func forwards(link string) bool {
	b, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + link + "/forwarding")
	return err == nil && strings.TrimSpace(string(b)) == "1"
}
