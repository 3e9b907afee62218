package addr_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"banger"
	"banger/internal/network/addr"
)

// Names fit into the kernel's 15 bytes and into a sysctl's path, carry the tag,
// and differ as soon as user, installation or VM do.
func TestLinkNames(t *testing.T) {
	seen := map[string]string{}
	note := func(who string, names ...string) {
		for _, n := range names {
			if other := seen[n]; other != "" {
				t.Errorf("%s and %s are both called %s", who, other, n)
			}
			seen[n] = who
		}
	}
	for _, uid := range []uint32{0, 1000, 1001, 4294967294} {
		for _, tag := range []string{"0000", "beef"} {
			g := addr.GatewayName(uid, tag)
			note(fmt.Sprint(uid, tag), g, addr.GatewayMAC(uid, tag))
			for n := range 50 {
				vm := banger.VMID(fmt.Sprintf("%08x", n*7919))
				name, mac := addr.TapName(uid, tag, vm), addr.TapMAC(uid, tag, vm)
				note(fmt.Sprint(uid, tag, vm), name, mac)
				if len(name) != 15 || len(g) != 15 || !strings.HasPrefix(name, "bt"+tag) || strings.ContainsAny(name, "./ ") {
					t.Errorf("names %q, %q", name, g)
				}
				m, err := net.ParseMAC(mac)
				if err != nil || m[0]&3 != 2 {
					t.Errorf("MAC %s: %v", mac, err)
				}
			}
		}
	}
	// The names of links that are up must survive an upgrade of banger.
	if n, m := addr.TapName(1000, "beef", "0a1b2c3d"), addr.TapMAC(1000, "beef", "0a1b2c3d"); n != "btbeef3pkuuxt5e" || m != "86:47:64:b1:dc:a1" {
		t.Errorf("the tap of a VM that runs would be called %s %s", n, m)
	}
}
