package main_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden file anew")

// All that is linked into the program that runs as root, package by package of
// our own and module by module of others': one more is a decision.
func TestDependencies(t *testing.T) {
	c := exec.Command("go", "list", "-deps", "-f", `{{if not .Standard}}{{if .Module.Main}}{{.ImportPath}}{{else}}{{.Module.Path}}{{end}}{{end}}`, ".")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(out))
	slices.Sort(lines)
	got := strings.Join(slices.Compact(lines), "\n") + "\n"
	const golden = "testdata/dependencies"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || got != string(want) {
		t.Errorf("%v; banger-root is made of\n%s\nand not, as testdata says, of\n%s", err, got, want)
	}
}

// What runs as root stays small enough to be read in an evening. It was 1,500 until
// NAT came: uplinks, what is forwarded to them, what Docker and ufw let through, a
// protocol of which two numbers are spoken, and what keeps a Set short with many VMs
// are 400 more, 180 have systemd-resolved told, and 50 lead guests to who answers
// them for names. 110 let guests to single ports of the host, and hold each to its
// part of the host's table of connections. Published ports are 380: what a socket
// is, the rules that lead what would be its to a VM, and whether a firewall forbids
// that, and when one comes 100. One look at the host for all of a Set is 50. 80 end what
// a killed one has left of connections, see iptables-legacy, and keep a second daemon
// out of a network that is held.
func TestSmall(t *testing.T) {
	// Of these, 690 make root disks (blockdev), and 70 check and carry requests
	// for them: loop and mapper ioctls, the checks of two foreign files, udev.
	const limit = 3820
	lines := 0
	for _, dir := range []string{".", "../../internal/privileged", "../../internal/privileged/server", "../../internal/blockdev", "../../internal/network/link"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(b)) {
				line = strings.TrimSpace(line)
				if !strings.HasSuffix(f, "_test.go") && line != "" && !strings.HasPrefix(line, "//") {
					lines++
				}
			}
		}
	}
	t.Logf("%d lines of code", lines)
	if lines > limit {
		t.Errorf("%d lines of code, %d are allowed: what of it must run as root?", lines, limit)
	}
}
