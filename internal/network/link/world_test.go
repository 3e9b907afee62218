package link_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"banger"
	"banger/internal/network"
	"banger/internal/network/addr"
	"banger/internal/network/link"
	"banger/test/netns"
)

const (
	uid = 65534
	tag = "beef"
)

var subnet = netip.MustParsePrefix("10.77.16.0/20")

// tap is the n-th VM's.
func tap(n int) network.Tap {
	b := subnet.Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n)+9)
	return network.Tap{VM: banger.VMID(fmt.Sprintf("%08x", n)), Addr: netip.AddrFrom4(b)}
}

func isolated(t network.Tap) network.Tap { t.Isolated = true; return t }

func config(taps ...network.Tap) network.Config {
	return network.Config{Tag: tag, Subnet: subnet, Taps: taps}
}

func tapName(n int) string { return addr.TapName(uid, tag, tap(n).VM) }

// apply fails the test if it cannot.
func apply(t *testing.T, c network.Config) []string {
	t.Helper()
	changes, err := link.New(uid).Apply(c)
	if err != nil {
		t.Fatalf("apply: %v (changed %v)", err, changes)
	}
	return changes
}

func world(*testing.T) string { return netns.World() }

func rules(_ *testing.T, handles bool) string { return netns.Rules(handles) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func byName(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(name, err)
	}
	return l
}
