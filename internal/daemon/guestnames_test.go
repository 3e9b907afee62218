package daemon

import (
	"net/netip"
	"sync"
	"testing"

	"banger"
)

// Each guest has a view of its own, made once; an asker that is no guest leaves nothing.
func TestForGuest(t *testing.T) {
	vm := func(id banger.VMID, a string) banger.VM {
		return banger.VM{ID: id, Spec: banger.Spec{Name: string(id), Network: banger.NetworkRouted}, Lease: banger.Lease{Addr: netip.MustParseAddr(a)}, PID: 1}
	}
	s := seen{net: netip.MustParsePrefix("10.9.16.0/20"), vms: []banger.VM{vm("a", "10.9.16.3"), vm("b", "10.9.16.4")}, guests: new(sync.Map)}
	a, b := s.forGuest(s.vms[0].Addr), s.forGuest(s.vms[1].Addr)
	if a == nil || b == nil || a == b {
		t.Errorf("views %p and %p", a, b)
	}
	if again := s.forGuest(s.vms[0].Addr); again != a {
		t.Error("it was made anew")
	}
	if s.forGuest(netip.MustParseAddr("10.9.16.5")) != nil {
		t.Error("nobody's address has a view")
	}
	n := 0
	s.guests.Range(func(any, any) bool { n++; return true })
	if n != 2 {
		t.Errorf("%d views are kept", n)
	}
}
