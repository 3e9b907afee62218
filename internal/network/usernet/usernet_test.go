package usernet_test

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"sync"
	"testing"

	"banger"
	"banger/internal/network"
	"banger/internal/network/usernet"
)

func nic(n int) network.NIC {
	return network.NIC{
		VM: banger.VMID(fmt.Sprintf("%08x", n)), MAC: "02:00:00:00:00:01",
		Addr: netip.MustParseAddr("10.9.0.3"), Net: network.SubnetOf(netip.MustParsePrefix("10.9.0.0/20")),
	}
}

func attach(t *testing.T, a *usernet.Attacher, n network.NIC, prev *banger.Endpoint) banger.Endpoint {
	t.Helper()
	ep, err := a.Attach(t.Context(), n, prev)
	if err != nil {
		t.Fatal(err)
	}
	return ep
}

// What Attach returns can be listened on, by the user and on loopback only.
func TestAttach(t *testing.T) {
	a := usernet.New(usernet.Config{})
	n := nic(1)
	ep := attach(t, a, n, nil)
	want := banger.Endpoint{SSH: ep.SSH, Stack: usernet.StackQEMU, User: &banger.UserNet{
		Subnet: n.Net.Prefix, Gateway: netip.MustParseAddr("10.9.0.1"), Resolver: netip.MustParseAddr("10.9.0.2")}}
	if !reflect.DeepEqual(ep, want) || ep.SSH.Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("endpoint %+v", ep)
	}
	l, err := net.Listen("tcp4", ep.SSH.String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if again := attach(t, a, n, nil); again.SSH != ep.SSH {
		t.Errorf("a second attach gives %s, not %s", again.SSH, ep.SSH)
	}
	if again := attach(t, a, n, &ep); !reflect.DeepEqual(again, ep) {
		t.Errorf("with prev %+v, not %+v", again, ep)
	}
	// a daemon that was started anew: the VMM listens
	if again := attach(t, usernet.New(usernet.Config{}), n, &ep); !reflect.DeepEqual(again, ep) {
		t.Errorf("after a restart %+v, not %+v", again, ep)
	}
	if other := attach(t, usernet.New(usernet.Config{}), n, nil); other.SSH == ep.SSH {
		t.Errorf("%s is listened on and was given", ep.SSH)
	}
}

func TestPrevThatNoLongerHolds(t *testing.T) {
	all := func(netip.AddrPort) bool { return true }
	a := usernet.NewWith(all, 20000, 20001, 20002)
	first := attach(t, a, nic(1), nil)
	if ep := attach(t, a, nic(2), &first); ep.SSH == first.SSH {
		t.Error("another VM's port was given")
	}
	moved := nic(1)
	moved.Net = network.SubnetOf(netip.MustParsePrefix("10.8.0.0/20"))
	if ep := attach(t, a, moved, &first); ep.User.Gateway != moved.Net.Gateway {
		t.Errorf("the old subnet: %+v", ep.User)
	}
	tap := banger.Endpoint{Tap: "t0", SSH: netip.MustParseAddrPort("10.9.0.3:5122")}
	if ep := attach(t, a, nic(3), &tap); ep.Tap != "" || ep.SSH.Addr() != first.SSH.Addr() {
		t.Errorf("another mode's endpoint: %+v", ep)
	}
}

// VMs that are attached at once get a port each; when there are no more, the
// error says so; a port that is given back is given again.
func TestAttachMany(t *testing.T) {
	const vms = 64
	ports := make([]uint16, vms)
	for i := range ports {
		ports[i] = uint16(20000 + i)
	}
	a := usernet.NewWith(func(netip.AddrPort) bool { return true }, ports...)
	var mu sync.Mutex
	var wg sync.WaitGroup
	seen := map[netip.AddrPort]bool{}
	for i := range vms {
		wg.Go(func() {
			ep, err := a.Attach(t.Context(), nic(i), nil)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || seen[ep.SSH] {
				t.Errorf("VM %d: %s, %v", i, ep.SSH, err)
			}
			seen[ep.SSH] = true
		})
	}
	wg.Wait()
	_, err := a.Attach(t.Context(), nic(vms), nil)
	if e := banger.AsError(err); e == nil || e.Code != banger.HostUnready || e.Remedy == "" {
		t.Errorf("no port left: %v", err)
	}
	for range 2 { // idempotent
		if err := a.Detach(t.Context(), nic(7)); err != nil {
			t.Fatal(err)
		}
	}
	attach(t, a, nic(vms), nil)
}

func TestCandidates(t *testing.T) {
	for _, c := range []struct {
		ephemeral string
		low, high uint16
		n         int
	}{
		{"32768\t60999\n", 20000, 32767, 12768},
		{"30000 60999", 20000, 29999, 10000},
		{"15000 60999", 10000, 65535, 5000 + 4536},
		{"1024 65535", 20000, 32767, 12768}, // nothing else is left
		{"", 20000, 32767, 12768},
		{"0 99999", 20000, 32767, 12768},
		{"9 a", 20000, 32767, 12768},
	} {
		p := usernet.Candidates(c.ephemeral)
		if len(p) != c.n || p[0] != c.low || p[len(p)-1] != c.high {
			t.Errorf("%q: %d from %d to %d", c.ephemeral, len(p), p[0], p[len(p)-1])
		}
	}
}

func FuzzRange(f *testing.F) {
	f.Add("32768\t60999\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(usernet.Candidates(text)) < 1000 {
			t.Errorf("%q leaves too few ports", text)
		}
	})
}
