package addr_test

import (
	"net/netip"
	"testing"

	"banger"
	"banger/internal/network/addr"
)

func TestCheckSubnet(t *testing.T) {
	taken := []netip.Prefix{prefix("0.0.0.0/0"), prefix("10.8.0.0/24"), prefix("192.168.1.0/24")}
	for s, want := range map[string]banger.Code{
		"10.77.0.0/20":    "",
		"192.168.64.0/28": "",
		"100.64.16.0/20":  "",
		"172.31.0.0/20":   "",
		"10.8.0.0/20":     banger.HostUnready,
		"192.168.0.0/20":  banger.HostUnready,
		"10.77.0.1/20":    banger.Invalid,
		"10.77.0.0/19":    banger.Invalid,
		"10.77.0.0/29":    banger.Invalid,
		"172.32.0.0/20":   banger.Invalid,
		"8.8.0.0/20":      banger.Invalid,
		"fd00::/20":       banger.Invalid,
	} {
		err := addr.CheckSubnet(prefix(s), taken)
		if banger.CodeOf(err) != want || want != "" && banger.AsError(err).Remedy == "" {
			t.Errorf("%s: %v", s, err)
		}
	}
	if err := addr.CheckSubnet(netip.Prefix{}, nil); banger.CodeOf(err) != banger.Invalid {
		t.Errorf("no subnet: %v", err)
	}
}

func TestMove(t *testing.T) {
	from := prefix("10.9.16.0/20")
	for _, c := range []struct{ addr, to, want string }{
		{"10.9.16.3", "10.77.0.0/20", "10.77.0.3"},
		{"10.9.31.254", "10.77.0.0/20", "10.77.15.254"},
		{"10.9.16.3", "192.168.64.16/28", "192.168.64.19"},
		{"10.9.16.14", "192.168.64.16/28", "192.168.64.30"},
		{"10.9.16.15", "192.168.64.16/28", ""}, // its broadcast address
		{"10.9.17.3", "192.168.64.16/28", ""},
	} {
		got, err := addr.Move(netip.MustParseAddr(c.addr), from, prefix(c.to))
		if c.want == "" {
			if banger.CodeOf(err) != banger.WrongState {
				t.Errorf("%s to %s: %s, %v", c.addr, c.to, got, err)
			}
			continue
		}
		if err != nil || got.String() != c.want {
			t.Errorf("%s to %s: %s, %v", c.addr, c.to, got, err)
		}
	}
}

// A VM's files are its owner's: a move must not make it another's.
func TestMoveKeepsTheOwner(t *testing.T) {
	from := prefix("10.9.16.0/20")
	a := netip.MustParseAddr("10.9.16.3")
	before, err := addr.UID("beef", from, a)
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"10.77.0.0/20", "10.99.5.0/24", "192.168.64.16/28"} {
		moved, err := addr.Move(a, from, prefix(to))
		if err != nil {
			t.Fatal(err)
		}
		if after, err := addr.UID("beef", prefix(to), moved); err != nil || after != before {
			t.Errorf("in %s its owner is %d, not %d: %v", to, after, before, err)
		}
	}
}
