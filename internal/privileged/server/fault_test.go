package server_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/network"
	"banger/internal/privileged"
	"banger/test/netns"
)

// At every point, from the first to the last, a request fails or banger-root is
// killed, on the way from one network to the next. What is there then is safe,
// and the same request again makes the new one, another the old.
func TestFaults(t *testing.T) {
	program := faulty(t)
	netns.Enter(t)
	isolated := tap(2)
	isolated.Isolated = true
	nat := tap(1)
	nat.NAT = true
	named := config(nat, isolated)
	named.Names = 5353
	named.Ports = []network.Port{{VM: nat.VM, Guest: 80}}
	states := []network.Config{config(), config(tap(1)), config(isolated), named, config()}
	crowded(t)
	begin := func() bangerd {
		c := command(t, 0, "banger-root")
		c.Path = program
		startWith(t, c, user)
		return connected(t)
	}
	if err := errors.Join(os.MkdirAll(privileged.RunDir, 0o711), os.WriteFile(privileged.RunDir+"/calm", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	b := begin()
	var worlds []string
	for _, c := range states {
		want(t, "set", b.set(c), "ok")
		worlds = append(worlds, netns.World())
	}
	cases := 0
	for from := range len(states) - 1 {
		for _, how := range []string{"fail", "kill"} {
			for n, met := 1, true; met; n++ {
				want(t, "begin", b.set(states[from]), "ok")
				if err := os.WriteFile(privileged.RunDir+"/fault", fmt.Appendf(nil, "%d %s", n, how), 0o600); err != nil {
					t.Fatal(err)
				}
				got := b.set(states[from+1])
				if err := os.Remove(privileged.RunDir + "/fault"); err == nil {
					met = false // fewer points than that
					want(t, "without a fault", got, "ok")
					continue
				}
				cases++
				name := fmt.Sprintf("%d to %d, %s at point %d", from, from+1, how, n)
				if got == "ok" {
					t.Errorf("%s: nobody was told", name)
				}
				safe(t, name)
				between(t, name, worlds[from], worlds[from+1])
				switch {
				case how == "kill":
					b.close()
					b = begin()
				case strings.HasPrefix(got, "needs_root"): // it failed to answer
					b.close()
					b = connected(t)
				}
				next := from + 1 - n%2 // forward, or back
				want(t, name, b.set(states[next]), "ok")
				if w := netns.World(); w != worlds[next] {
					t.Fatalf("%s, then state %d:\n%s\nshould be\n%s", name, next, w, worlds[next])
				}
			}
		}
	}
	if cases < 150 {
		t.Errorf("%d cases: points are missing", cases)
	}
	t.Logf("%d cases", cases)
	everyPoint(t)
}

// connected is a user's connection, and a port that he has.
func connected(t *testing.T) bangerd {
	t.Helper()
	b, hello := connect(t, user)
	want(t, "connect", hello, "ok")
	want(t, "listen", b.ask("listen 0.0.0.0:8080"), "ok")
	return b
}

// crowded gives the host an uplink, and Docker's chain.
func crowded(t *testing.T) {
	t.Helper()
	a := netlink.NewLinkAttrs()
	a.Name = "wan0"
	if err := netlink.LinkAdd(&netlink.Ifb{LinkAttrs: a}); err != nil {
		t.Fatal(err)
	}
	l, err := netlink.LinkByName("wan0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	docker := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"})
	c.AddChain(&nftables.Chain{Table: docker, Name: "DOCKER-USER"})
	for _, err := range []error{
		os.WriteFile("/proc/sys/net/ipv6/conf/wan0/disable_ipv6", []byte("1"), 0), // no address of its own comes late
		netlink.LinkSetUp(l),
		netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 0, 2, 1), Mask: net.CIDRMask(24, 32)}}),
		netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.IPv4(192, 0, 2, 2)}),
		c.Flush(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// safe fails unless each tap is behind the rules and has no IPv6, and so is the
// uplink while it forwards; and whoever may not read rules sees by a link that there
// are some.
func safe(t *testing.T, name string) {
	t.Helper()
	w := netns.World()
	if regexp.MustCompile(`table \d+ banger_`).MatchString(w) && !strings.Contains(w, "link bg") {
		t.Errorf("%s: there are rules, and no gateway's link:\n%s", name, w)
	}
	for _, m := range regexp.MustCompile(`link (bt\w+) .*up=true`).FindAllStringSubmatch(w, -1) {
		if !regexp.MustCompile(`set taps ifname .*"`+m[1]+`\\x00`).MatchString(w) || !regexp.MustCompile(`sysctl `+m[1]+` .*rp_filter=1 .*disable_ipv6=1 accept_ra=0`).MatchString(w) {
			t.Errorf("%s: %s is up, and open:\n%s", name, m[1], w)
		}
	}
	if strings.Contains(w, "sysctl wan0 forwarding=1") && !strings.Contains(w, `set opened iface_index ["`) {
		t.Errorf("%s: the uplink forwards whatever comes:\n%s", name, w)
	}
}

// between fails unless the rules are those of the one world or of the other, whole, and
// links and routes that both have are there.
func between(t *testing.T, name, from, to string) {
	t.Helper()
	w := netns.World()
	table := func(world string) string {
		_, own, _ := strings.Cut(world, "\ntable 1 banger_")
		own, _, _ = strings.Cut(own, "\ntable ")
		return strings.TrimSpace(own)
	}
	if got := table(w); got != table(from) && got != table(to) {
		t.Errorf("%s: the rules are\n%s\nneither\n%s\nnor\n%s", name, got, table(from), table(to))
	}
	for line := range strings.Lines(from) {
		if strings.HasPrefix(line, "link ") || strings.HasPrefix(line, "route ") {
			if strings.Contains(to, line) && !strings.Contains(w, line) {
				t.Errorf("%s: lost %s", name, line)
			}
		}
	}
}

// everyPoint fails unless each point in the source was passed.
func everyPoint(t *testing.T) {
	passed, err := os.ReadFile(privileged.RunDir + "/points")
	if err != nil {
		t.Fatal(err)
	}
	seen := strings.Split(string(passed), "\n")
	files, err := filepath.Glob("../../network/link/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	known := 0
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		for _, m := range regexp.MustCompile(`s\.do\([^"]+"([^"]+)", func|list\(s, "([^"]+)", func`).FindAllStringSubmatch(string(src), -1) {
			known++
			point := m[1]
			if m[2] != "" {
				point = "list " + m[2]
			}
			// These mend what others did: package link tests them.
			if point != "delete address" && point != "delete route" && point != "end stale connections" && !slices.Contains(seen, point) {
				t.Errorf("%s: nothing failed at %q", f, point)
			}
		}
	}
	if known < 20 {
		t.Errorf("only %d points found in the source", known)
	}
}

// faulty builds a banger-root that can be made to fail.
func faulty(t *testing.T) string {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can run banger-root")
	}
	path := filepath.Join(t.TempDir(), "banger-root")
	c := exec.Command("go", "build", "-tags", "faults", "-o", path, "banger/cmd/banger-root")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// The program that is shipped has no such points.
func TestNoFaultsInTheShipped(t *testing.T) {
	netns.Enter(t)
	start(t, user)
	if err := os.WriteFile(privileged.RunDir+"/fault", []byte("1 fail"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, _ := connect(t, user)
	want(t, "set", b.set(config(tap(1))), "ok")
	if err := unix.Access(privileged.RunDir+"/points", unix.F_OK); err == nil {
		t.Error("it notes what it passes")
	}
}
