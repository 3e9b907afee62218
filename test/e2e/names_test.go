package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/cli/dnscmd"
)

// sh runs a shell command on the test's own thread's host, and returns what it said.
func (l *lan) sh(script string) (string, error) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit) // clean-ups come, too
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// dig asks the daemon itself.
func (l *lan) dig(args string) string {
	l.t.Helper()
	_, port, _ := strings.Cut(strings.TrimSpace(l.ok("dns", "status", "-q")), ":")
	out, err := l.sh("dig @127.0.0.1 -p " + port + " +noall +comments +answer " + args)
	if err != nil {
		l.t.Fatalf("dig %s: %v\n%s", args, err, out)
	}
	return out
}

// Routed VMs have their names on a host whose programs ask a dnsmasq that was told
// by banger dns install: from the start to the guest's own poweroff, and back.
func TestNamesRouted(t *testing.T) {
	l := newLAN(t)
	for _, tool := range []string{"dig", "/usr/sbin/dnsmasq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: needs %s (bind9-dnsutils, dnsmasq-base)", tool)
		}
	}
	l.askDnsmasq()
	v := l.boot("web", "--network", "routed")
	ready := time.Now()
	if got, err := l.sh("getent hosts web.vm"); err != nil || strings.Fields(got)[0] != v.Addr.String() {
		t.Errorf("getent hosts web.vm: %q, %v", got, err)
	}
	t.Logf("getent had the name %v after the VM was ready", time.Since(ready))
	if got := l.dig("-x " + v.Addr.String()); !strings.Contains(got, "PTR\tweb.vm.") {
		t.Errorf("its address is called\n%s", got)
	}
	if got := l.dig("web.vm AAAA"); !strings.Contains(got, "status: NOERROR") || !strings.Contains(got, "ANSWER: 0") {
		t.Errorf("AAAA:\n%s", got)
	}
	ssh := func(host string) (string, error) {
		return l.sh("ssh -F none -n -i " + l.State + "/id_ed25519 -p 5122 -o BatchMode=yes -o StrictHostKeyChecking=no" +
			" -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR root@" + host + " hostname")
	}
	if got, err := ssh("web.vm"); err != nil || got != "web" {
		t.Errorf("ssh root@web.vm: %q, %v", got, err)
	}

	l.ok("vm", "set", "web", "--name", "site")
	if got, err := ssh("site.vm"); err != nil || got != "web" { // the guest hears of it at its next start
		t.Errorf("ssh root@site.vm: %q, %v", got, err)
	}
	if got, err := l.sh("getent hosts web.vm"); err == nil {
		t.Errorf("the old name is still %s", got)
	}
	l.ends("site", "poweroff")
	l.ok("vm", "wait", "site", "--for", "stopped", "--timeout", limit.String())
	if got := l.dig("site.vm"); !strings.Contains(got, "status: NXDOMAIN") {
		t.Errorf("powered off:\n%s", got)
	}
	if got := l.dig("-x " + v.Addr.String()); !strings.Contains(got, "status: NXDOMAIN") {
		t.Errorf("the address of a VM that is powered off:\n%s", got)
	}
}

// askDnsmasq makes this a host that asks a dnsmasq, which has the line that install
// gives one. Only this namespace's /etc/resolv.conf is another; where it is a link
// into /run, that is empty here.
func (l *lan) askDnsmasq() {
	l.t.Helper()
	conf, resolv, pid := filepath.Join(l.Dir, "dnsmasq.conf"), filepath.Join(l.Dir, "resolv.conf"), filepath.Join(l.Dir, "dnsmasq.pid")
	must(l.t, os.WriteFile(resolv, []byte("nameserver 127.0.0.1\n"), 0o644))
	if out, err := l.sh("real=$(readlink -m /etc/resolv.conf); mkdir -p ${real%/*}; [ -e $real ] || : >$real"); err != nil {
		l.t.Fatalf("%v\n%s", err, out)
	}
	must(l.t, unix.Mount(resolv, "/etc/resolv.conf", "", unix.MS_BIND, ""))
	l.t.Cleanup(func() { must(l.t, unix.Unmount("/etc/resolv.conf", 0)) })
	l.ok("daemon", "start")
	var s dnscmd.Status
	must(l.t, json.Unmarshal([]byte(l.ok("dns", "status", "-o", "json")), &s))
	at := netip.MustParseAddrPort(s.Server.Listen)
	must(l.t, os.WriteFile(conf, fmt.Appendf(nil, "server=/vm/%s#%d\n", at.Addr(), at.Port()), 0o644))
	if out, err := l.sh("dnsmasq --conf-file=" + conf + " --pid-file=" + pid + " --no-resolv --no-hosts --user=root --listen-address=127.0.0.1 --bind-interfaces"); err != nil {
		l.t.Fatalf("dnsmasq: %v\n%s", err, out)
	}
	l.t.Cleanup(func() {
		if out, err := l.sh("kill $(cat " + pid + ")"); err != nil {
			l.t.Errorf("end dnsmasq: %v\n%s", err, out)
		}
	})
}

// A real systemd-resolved, in a guest that has banger: told by install, asked by
// programs, and as it was after uninstall.
func TestNamesByResolved(t *testing.T) {
	need(t)
	if os.Getenv("BANGER_TEST_LONG") == "" {
		t.Skip("SKIPPED: BANGER_TEST_LONG=1 gets systemd-resolved from Debian and installs it in a guest, some minutes")
	}
	dir := t.TempDir()
	get := exec.CommandContext(t.Context(), "apt-get", "download", "systemd-resolved")
	get.Dir = dir
	if out, err := get.CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: apt-get download systemd-resolved: %v\n%s", err, out)
	}
	b := fresh(t)
	b.boot("sys", "--memory", "512MiB", "--cpu", "2")
	b.booted("sys")
	b.ok("vm", "cp", dir, "sys:/root/deb")
	b.ok("vm", "cp", b.Bin, "sys:/opt/banger")
	// The guest program gives resolved a server for all of the machine; a host has
	// those of its links.
	b.in("sys", `dpkg -i /root/deb/*.deb >/dev/null && rm /run/systemd/resolved.conf.d/00-banger.conf &&
		systemctl restart systemd-resolved && find /etc -path '*resolved*' | sort >/root/before`)
	banger := func(args string) string {
		return b.in("sys", "PATH=/opt/banger:$PATH HOME=/root banger "+args)
	}
	status := func() (s dnscmd.Status) {
		t.Helper()
		must(t, json.Unmarshal([]byte(banger("dns status -o json")), &s))
		return s
	}
	banger("daemon start")
	if s := status(); s.Resolves || s.Resolver != "resolved" || s.Advice != "banger dns install" {
		t.Errorf("at first: %+v", s)
	}
	banger("dns install")
	s := status()
	if !s.Resolves || len(s.SetUp) != 1 {
		t.Errorf("installed: %+v", s)
	}
	if got := b.in("sys", "getent hosts "+s.Server.Probe); !strings.HasPrefix(got, "127.0.0.1 ") {
		t.Errorf("getent says %q", got)
	}
	if got := b.in("sys", "resolvectl query --legend=no "+s.Server.Probe); !strings.Contains(got, "127.0.0.1") {
		t.Errorf("resolvectl says %q", got)
	}
	banger("dns install")
	banger("daemon restart")
	if s := status(); !s.Resolves {
		t.Errorf("after the daemon's restart: %+v", s)
	}
	banger("dns uninstall")
	if s := status(); s.Resolves || len(s.SetUp) != 0 {
		t.Errorf("uninstalled: %+v", s)
	}
	b.in("sys", "find /etc -path '*resolved*' | sort | cmp - /root/before")
	banger("daemon stop")
}
