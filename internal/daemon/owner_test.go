package daemon_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"banger/internal/daemon"
)

// A device that comes, or is given to a group, after the daemon's start counts.
func TestGroupsOfADevice(t *testing.T) {
	device := filepath.Join(t.TempDir(), "kvm")
	expect := func(when string, want []uint32) {
		t.Helper()
		if got := daemon.GroupsOf(device); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	expect("missing", nil)
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	group := os.Getegid()
	if group == 0 { // root's is none to be given
		if err := os.Chmod(device, 0o660); err != nil {
			t.Fatal(err)
		}
		expect("root's", nil)
		if err := os.Chown(device, -1, 4242); err != nil {
			t.Fatal(err)
		}
		group = 4242
	}
	if err := os.Chmod(device, 0o640); err != nil {
		t.Fatal(err)
	}
	expect("readable only", nil)
	if err := os.Chmod(device, 0o660); err != nil {
		t.Fatal(err)
	}
	expect("given to a group", []uint32{uint32(group)})
}
