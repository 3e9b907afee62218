package link_test

import (
	"os/exec"
	"strings"
	"testing"

	"banger"
	"banger/internal/network"
	"banger/internal/network/link"
	"banger/test/netns"
)

// What the rules of iptables-legacy say nobody hears by netlink: where a table of theirs
// judges what comes in, no port is led past it.
func TestPublishedAndLegacy(t *testing.T) {
	tool, err := exec.LookPath("iptables-legacy")
	if err != nil {
		t.Skip("SKIPPED: ", err)
	}
	for table, led := range map[string]bool{"filter": false, "mangle": false, "security": false, "raw": true, "nat": true} {
		t.Run(table, func(t *testing.T) {
			netns.Enter(t)
			before := world(t)
			if out, err := exec.Command(tool, "-t", table, "-S").CombinedOutput(); err != nil {
				t.Skipf("SKIPPED: the kernel has no table %s for iptables-legacy: %s", table, out)
			}
			c := config(tap(1))
			c.Ports = []network.Port{claimed(t, tap(1), 80, hold(t, "0.0.0.0:8080", banger.TCP))}
			_, err := link.New(uid).Apply(c)
			if led != (err == nil) || !led && (banger.CodeOf(err) != banger.HostUnready || !strings.Contains(err.Error(), "iptables-legacy, table "+table)) {
				t.Errorf("%v", err)
			}
			closed(t, before)
		})
	}
}
