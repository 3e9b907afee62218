package boot_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/guestapi"
	"banger/internal/inguest/boot"
)

func identity() guestapi.Identity {
	return guestapi.Identity{
		Version: guestapi.Version, VM: "0a0b0c0d", Launch: "0011223344556677", Hostname: "web",
		MachineID: strings.Repeat("0123456789abcdef", 2), MAC: "52:54:00:00:00:02",
		Address: netip.MustParsePrefix("172.30.0.3/32"), Gateway: netip.MustParseAddr("172.30.0.1"),
		Resolvers: []netip.Addr{netip.MustParseAddr("172.30.0.2")},
		HostKey:   "a key", AuthorizedKeys: []string{"another"},
	}
}

func encode(t *testing.T, id guestapi.Identity) []byte {
	t.Helper()
	b, err := json.Marshal(id)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestIdentity(t *testing.T) {
	file := filepath.Join(t.TempDir(), "identity.json")
	if _, err := boot.ReadIdentity(file); err == nil {
		t.Error("no identity, no error")
	}
	if err := os.WriteFile(file, encode(t, identity()), 0o600); err != nil {
		t.Fatal(err)
	}
	if id, err := boot.ReadIdentity(file); err != nil || id.Hostname != "web" {
		t.Errorf("%+v, %v", id, err)
	}
	for want, spoil := range map[string]func(*guestapi.Identity){
		"version 2, want 1": func(id *guestapi.Identity) { id.Version = 2 },
		"no launch ID":      func(id *guestapi.Identity) { id.Launch = "" },
		"no valid host name": func(id *guestapi.Identity) {
			id.Hostname = "web\n127.0.0.1 bank"
		},
		"no machine ID":        func(id *guestapi.Identity) { id.MachineID = "" },
		"no MAC address":       func(id *guestapi.Identity) { id.MAC = "" },
		"no address":           func(id *guestapi.Identity) { id.Address = netip.Prefix{} },
		"no address or gatewa": func(id *guestapi.Identity) { id.Gateway = netip.Addr{} },
		"no keys":              func(id *guestapi.Identity) { id.AuthorizedKeys = nil },
	} {
		id := identity()
		spoil(&id)
		if _, err := boot.ParseIdentity(encode(t, id)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	f.Add([]byte(`{"version":1}`))
	b, _ := json.Marshal(identity())
	f.Add(b)
	f.Fuzz(func(t *testing.T, text []byte) {
		id, err := boot.ParseIdentity(text)
		if err == nil && (strings.ContainsAny(id.Hostname, " \n/") || !id.Address.IsValid()) {
			t.Errorf("accepted %+v", id)
		}
	})
}
