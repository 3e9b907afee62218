package e2e

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// ownEtc gives the test an /etc of its own, as the host's is, and a systemctl that
// restarts nothing.
func ownEtc(t *testing.T) (bin string) {
	t.Helper()
	dir := t.TempDir()
	etc, bin := filepath.Join(dir, "etc"), filepath.Join(dir, "bin")
	if out, err := exec.Command("cp", "-a", "/etc", etc).CombinedOutput(); err != nil {
		t.Fatalf("copy /etc: %v: %s", err, out)
	}
	must(t, unix.Mount(etc, "/etc", "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount("/etc", unix.MNT_DETACH)) })
	must(t, os.Mkdir(bin, 0o755))
	must(t, os.WriteFile(filepath.Join(bin, "systemctl"), []byte("#!/bin/sh\nexit 0\n"), 0o755))
	return bin
}

// firewalls are what Docker and ufw have in the host's tables, as far as banger looks.
const firewalls = `*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER-USER - [0:0]
:ufw-before-forward - [0:0]
:ufw-before-input - [0:0]
-A INPUT -j ufw-before-input
-A FORWARD -j DOCKER-USER
-A FORWARD -j ufw-before-forward
-A DOCKER-USER -j RETURN
COMMIT
`

// What of a host's state means nothing, or changes by itself: counters, the times in
// comments, how many connections are known.
var passing = regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]|packets \d+ bytes \d+|^net\.netfilter\.nf_conntrack_count.*\n`)

// hostNow is the state of the host by what its own tools say of it, by what that is.
func (l *lan) hostNow(home string) map[string]string {
	l.t.Helper()
	all := map[string]string{}
	for what, command := range map[string]string{
		"links": "ip -d -o link", "addresses": "ip -o address", "routes": "ip route show table all", "policies": "ip rule",
		"nft": "nft list ruleset", "iptables": "iptables-save", "sysctl": "sysctl -a -r '^net[.]'",
		"resolver": "find /etc -printf '%p %y %m %l\n' | sort; find /etc -type f -exec sha256sum {} + | sort",
		"home":     "find " + home + " -printf '%P %y %m %l\n' | sort",
	} {
		out, err := exec.Command("sh", "-c", command).Output()
		if err != nil {
			l.t.Fatalf("%s: %v", command, err)
		}
		all[what] = passing.ReplaceAllString(string(out), "")
	}
	return all
}

// same fails the test if the host is not as it was before banger.
func (l *lan) same(when string, before, now map[string]string, but ...string) {
	l.t.Helper()
	for _, what := range slices.Sorted(maps.Keys(before)) {
		if before[what] != now[what] && !slices.Contains(but, what) {
			l.t.Errorf("%s: %s is not as it was:\n%s\nbut\n%s", when, what, before[what], now[what])
		}
	}
}

// A host on which banger has done all that it does to one is, after banger uninstall,
// as it was before; its VMs stay until they are to go, too.
func TestUninstall(t *testing.T) {
	need(t)
	for _, tool := range []string{"ip", "nft", "iptables-save", "sysctl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("SKIPPED: ", err)
		}
	}
	var bin string
	l := newLAN(t, func() { internet(t); bin = ownEtc(t) })
	restore := exec.Command("iptables-restore")
	restore.Stdin = strings.NewReader(firewalls)
	if out, err := restore.CombinedOutput(); err != nil {
		t.Fatalf("iptables-restore: %v: %s", err, out)
	}
	t.Cleanup(func() { // newLAN's own look at the end knows nothing of it
		if out, err := exec.Command("nft", "delete", "table", "ip", "filter").CombinedOutput(); err != nil {
			t.Errorf("nft: %v: %s", err, out)
		}
	})
	l.Set("BANGER_NETWORK", "auto")
	l.Set("PATH", l.Bin+":"+bin+":"+os.Getenv("PATH"))
	home := filepath.Join(l.Dir, "home")
	before := l.hostNow(home)

	l.ok(append([]string{"vm", "create", "--name", "web", "--publish", "0.0.0.0:28081:80"}, cheap()...)...)
	l.ok("ssh-config", "install")
	l.ok("dns", "install", "--resolver", "dnsmasq")
	during := l.hostNow(home)
	for what := range before {
		if before[what] == during[what] && what != "policies" { // those banger never changes
			t.Errorf("while a VM runs %s is as it was: this test would see nothing", what)
		}
	}
	l.ok("daemon", "stop", "--all")
	l.same("after daemon stop --all", before, l.hostNow(home), "home", "resolver")

	l.ok("vm", "start", "web")
	l.ok("uninstall", "--yes")
	l.same("after uninstall", before, l.hostNow(home))

	if v := l.show("web"); v.State != "stopped" { // by another daemon, of the same VMs
		t.Errorf("web is %s", v.State)
	}
	l.ok("uninstall", "--yes", "--purge")
	l.same("after uninstall --purge", before, l.hostNow(home))
	for _, dir := range []string{l.State, l.Run} {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
