package server_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
	"banger/internal/privileged"
	"banger/test/netns"
)

// Two users who ask for the same addresses at the same moment do not both find
// them free: the one's banger-root waits for the other's.
func TestOneAfterTheOther(t *testing.T) {
	netns.Enter(t)
	start(t, user)
	start(t, other)
	a, _ := connect(t, user)
	b, _ := connect(t, other)
	dir, err := os.Open(privileged.RunDir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil { // a third one is at work
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	before := netns.World()
	// The first's subnet holds the other's, with no address in common.
	for n, bd := range []bangerd{a, b} {
		c := network.Config{Tag: tag, Subnet: netip.MustParsePrefix([]string{"10.77.16.0/20", "10.77.20.0/24"}[n]),
			Taps: []network.Tap{{VM: banger.VMID(strings.Repeat("1", 8)), Addr: netip.AddrFrom4([4]byte{10, 77, byte(16 + 4*n), 10})}}}
		j, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(bd.in, "set %s\n", j); err != nil {
			t.Fatal(err)
		}
	}
	waiting, deadline := 0, time.Now().Add(20*time.Second)
	for waiting < 2 && time.Now().Before(deadline) {
		locks, err := os.ReadFile("/proc/locks")
		if err != nil {
			t.Fatal(err)
		}
		waiting = 0
		for line := range strings.Lines(string(locks)) {
			if strings.Contains(line, "-> FLOCK") && strings.Contains(line, fmt.Sprintf(":%d 0 EOF", st.Ino)) {
				waiting++
			}
		}
	}
	if waiting != 2 || netns.World() != before {
		t.Errorf("%d wait, and the host is\n%s\nwas\n%s", waiting, netns.World(), before)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	got := []string{a.line(), b.line()}
	ok, refused := 0, 0
	for _, s := range got {
		switch {
		case s == "ok":
			ok++
		case strings.HasPrefix(s, "wrong_state "):
			refused++
		}
	}
	if ok != 1 || refused != 1 {
		t.Errorf("they were told %q", got)
	}
	for _, bd := range []bangerd{a, b} {
		want(t, "give back", bd.set(config()), "ok")
	}
	if got := netns.World(); got != before {
		t.Errorf("left:\n%s", got)
	}
}
