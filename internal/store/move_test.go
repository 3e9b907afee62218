package store_test

import (
	"errors"
	"net/netip"
	"testing"

	"banger"
)

// A move changes all addresses and the setting, or nothing; one VM's new address
// may be another's old one.
func TestMoveSubnet(t *testing.T) {
	s := fresh(t)
	subnet := func() string {
		v, err := s.Setting(t.Context(), "subnet", func() (string, error) { return "old", nil })
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	subnet()
	a, b := create(t, s, 1, "a"), create(t, s, 2, "b")
	swap := map[netip.Addr]netip.Addr{a.Lease.Addr: b.Lease.Addr, b.Lease.Addr: a.Lease.Addr}
	move := func(x netip.Addr) (netip.Addr, error) { return swap[x], nil }

	told := 0
	moved := func() { told++ }
	full := errors.New("full")
	if err := s.MoveSubnet(t.Context(), "new", func(x netip.Addr) (netip.Addr, error) {
		if x == b.Lease.Addr {
			return x, full
		}
		return swap[x], nil
	}, moved); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	running, err := s.UpdateVM(t.Context(), b.ID, func(r *banger.Record) error { r.Run = &banger.Run{Launch: "1"}; return nil })
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, s.MoveSubnet(t.Context(), "new", move, moved), banger.WrongState, "b", "banger stop")
	if got, err := s.VM(t.Context(), a.ID); err != nil || got.Lease != a.Lease || subnet() != "old" || told != 0 {
		t.Errorf("after refusals: %+v, %v", got, err)
	}
	if _, err := s.UpdateVM(t.Context(), b.ID, func(r *banger.Record) error { r.Run = nil; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.MoveSubnet(t.Context(), "new", move, moved); err != nil {
		t.Fatal(err)
	}
	for _, r := range []banger.Record{a, running} {
		got, err := s.VM(t.Context(), r.ID)
		if err != nil || got.Lease.Addr != swap[r.Lease.Addr] || got.Lease.MAC != r.Lease.MAC {
			t.Errorf("%s: %+v, %v", r.Spec.Name, got.Lease, err)
		}
	}
	if got := subnet(); got != "new" || told != 1 {
		t.Errorf("subnet %s, told %d times", got, told)
	}
}
