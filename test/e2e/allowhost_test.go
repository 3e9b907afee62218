package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// A guest reaches the port of the host that it is let to, by the name host.vm, and no
// other; from the moment that vm set says so, and no longer. One of mode user is told
// that there is no such thing.
func TestAllowHost(t *testing.T) {
	l := newLAN(t)
	port, other := l.listen(), l.listen()
	v := l.boot("web", "--network", "routed", "--allow-host", fmt.Sprint(port))
	if len(v.AllowHost) != 1 || int(v.AllowHost[0].Port) != port {
		t.Errorf("recorded: %v", v.AllowHost)
	}
	gateway := netip.MustParseAddr(strings.TrimSpace(l.in("web", "ip -4 route show default | sed 's/.*via \\([0-9.]*\\).*/\\1/'")))
	connects := func(host string, port int) bool {
		t.Helper()
		return l.run("vm", "exec", "-n", "web", "--", "timeout", "3", "bash", "-c", fmt.Sprintf("</dev/tcp/%s/%d", host, port)).code == 0
	}
	named := func() string {
		return strings.TrimSpace(l.in("web", "getent hosts host.vm || true"))
	}
	if got := named(); !strings.HasPrefix(got, gateway.String()+" ") {
		t.Errorf("host.vm is %q", got)
	}
	if !connects("host.vm", port) {
		t.Error("the port is not open")
	}
	for _, to := range []struct {
		host string
		port int
	}{{"host.vm", other}, {"host.vm", 22}, {l.uplink.String(), port}} {
		if connects(to.host, to.port) {
			t.Errorf("it reaches %+v", to)
		}
	}
	if out := l.ok("vm", "show", "web"); !strings.Contains(out, fmt.Sprint(port)) {
		t.Errorf("vm show says nothing of it:\n%s", out)
	}
	l.ok("vm", "set", "web", "--allow-host", fmt.Sprint(other), "--isolated")
	if connects("host.vm", port) || !connects("host.vm", other) {
		t.Error("another port, on a VM that is isolated now: not so")
	}
	l.ok("vm", "set", "web", "--allow-host", "none")
	if got := named(); got != "" || connects(gateway.String(), other) {
		t.Errorf("none any more: host.vm is %q, or the port is open", got)
	}
	r := l.run("vm", "create", "--no-start", "--network", "user", "--allow-host", "80")
	if r.code == 0 || !strings.Contains(r.err, "--network routed") {
		t.Errorf("mode user: exit code %d, %q", r.code, r.err)
	}
}
