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
	try := func(host string, port int, seconds string) result {
		t.Helper()
		return l.run("vm", "exec", "-n", "web", "--", "timeout", seconds, "bash", "-c", fmt.Sprintf("</dev/tcp/%s/%d", host, port))
	}
	open := func(port int) {
		t.Helper()
		if r := try("host.vm", port, "60"); r.code != 0 {
			t.Errorf("port %d is not open: %+v", port, r)
		}
	}
	closed := func(host string, port int) {
		t.Helper()
		if r := try(host, port, "3"); r.code == 0 {
			t.Errorf("port %d of %s is open", port, host)
		}
	}
	named := func() string {
		return strings.TrimSpace(l.in("web", "getent hosts host.vm || true"))
	}
	if got := named(); !strings.HasPrefix(got, gateway.String()+" ") {
		t.Errorf("host.vm is %q", got)
	}
	open(port)
	closed("host.vm", other)
	closed("host.vm", 22)
	closed(l.uplink.String(), port)
	if out := l.ok("vm", "show", "web"); !strings.Contains(out, fmt.Sprint(port)) {
		t.Errorf("vm show says nothing of it:\n%s", out)
	}
	l.ok("vm", "set", "web", "--allow-host", fmt.Sprint(other), "--isolated")
	open(other) // on a VM that is isolated now
	closed("host.vm", port)
	l.ok("vm", "set", "web", "--allow-host", "none")
	if got := named(); got != "" {
		t.Errorf("host.vm is %q", got)
	}
	closed(gateway.String(), other)
	r := l.run("vm", "create", "--no-start", "--network", "user", "--allow-host", "80")
	if r.code == 0 || !strings.Contains(r.err, "--network routed") {
		t.Errorf("mode user: exit code %d, %q", r.code, r.err)
	}
}
