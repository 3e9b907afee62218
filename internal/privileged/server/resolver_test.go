package server_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/vishvananda/netlink"

	"banger/internal/network/addr"
	"banger/internal/privileged"
	"banger/internal/privileged/server"
	"banger/test/netns"
)

// pretended is a systemd-resolved on a real bus: that of the test machines cannot
// be had without a systemd. test/lab asks the real one.
type pretended struct {
	mu    sync.Mutex
	calls []string
	props map[string]dbus.Variant
	fail  string // the method that fails
	gone  int32  // a link that is not there
	came  chan string
}

func (p *pretended) set(props map[string]dbus.Variant, fail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.props, p.fail = props, fail
}

func (p *pretended) note(method string, index int32, arg any) *dbus.Error {
	p.mu.Lock()
	defer p.mu.Unlock()
	call := fmt.Sprintf("%s %d %v", method, index, arg)
	p.calls = append(p.calls, call)
	select {
	case p.came <- call:
	default:
	}
	if method == p.fail {
		return dbus.MakeFailedError(fmt.Errorf("%s fails", method))
	}
	switch method {
	case "RevertLink":
		p.props = map[string]dbus.Variant{}
	default:
		p.props[strings.TrimPrefix(method, "SetLink")] = dbus.MakeVariant(arg)
	}
	return nil
}

func (p *pretended) said() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	calls := p.calls
	p.calls = nil
	return calls
}

type entry struct {
	Family  int32
	Address []byte
	Port    uint16
	Name    string
}

type domain struct {
	Name      string
	RouteOnly bool
}

func (p *pretended) SetLinkDefaultRoute(i int32, b bool) *dbus.Error {
	return p.note("SetLinkDefaultRoute", i, b)
}
func (p *pretended) SetLinkLLMNR(i int32, s string) *dbus.Error { return p.note("SetLinkLLMNR", i, s) }
func (p *pretended) SetLinkMulticastDNS(i int32, s string) *dbus.Error {
	return p.note("SetLinkMulticastDNS", i, s)
}
func (p *pretended) SetLinkDNSSEC(i int32, s string) *dbus.Error {
	return p.note("SetLinkDNSSEC", i, s)
}
func (p *pretended) SetLinkDNSOverTLS(i int32, s string) *dbus.Error {
	return p.note("SetLinkDNSOverTLS", i, s)
}
func (p *pretended) SetLinkDomains(i int32, d []domain) *dbus.Error {
	return p.note("SetLinkDomains", i, d)
}
func (p *pretended) SetLinkDNSEx(i int32, s []entry) *dbus.Error { return p.note("SetLinkDNSEx", i, s) }
func (p *pretended) RevertLink(i int32) *dbus.Error              { return p.note("RevertLink", i, "") }
func (p *pretended) GetLink(i int32) (dbus.ObjectPath, *dbus.Error) {
	if i == p.gone {
		return "", dbus.NewError("org.freedesktop.resolve1.NoSuchLink", nil)
	}
	return "/org/freedesktop/resolve1/link/_37", nil
}

// GetAll is that of the link's properties.
func (p *pretended) GetAll(string) (map[string]dbus.Variant, *dbus.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[string]dbus.Variant{}
	for k, v := range p.props {
		all[k] = v
	}
	return all, nil
}

// bus starts a message bus of the test's own.
func bus(t *testing.T, socket string) string {
	t.Helper()
	path, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("SKIPPED: needs dbus-daemon, a bus to ask systemd-resolved on")
	}
	c := exec.Command(path, "--session", "--nofork", "--nopidfile", "--print-address=1", "--address=unix:path="+socket)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, out)
	return strings.TrimSpace(line)
}

func pretend(t *testing.T, address string) *pretended {
	t.Helper()
	p := &pretended{props: map[string]dbus.Variant{}, gone: 8, came: make(chan string, 100)}
	c, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	for _, err := range []error{
		c.Export(p, "/org/freedesktop/resolve1", "org.freedesktop.resolve1.Manager"),
		c.Export(p, "/org/freedesktop/resolve1/link/_37", "org.freedesktop.DBus.Properties"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if r, err := c.RequestName("org.freedesktop.resolve1", dbus.NameFlagDoNotQueue); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(r, err)
	}
	return p
}

// Resolved is told of the link's server once, the server last, and forgets it again.
func TestTellResolved(t *testing.T) {
	dir, err := os.MkdirTemp("", "bus") // t.TempDir is too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	address, at := bus(t, filepath.Join(dir, "s")), netip.MustParseAddrPort("127.0.0.1:42069")
	if err := server.TellResolved(address, 7, at); err == nil {
		t.Error("without resolved somebody was told")
	}
	p := pretend(t, address)
	tell := func(at netip.AddrPort) []string {
		t.Helper()
		if err := server.TellResolved(address, 7, at); err != nil {
			t.Fatal(err)
		}
		return p.said()
	}
	want := []string{
		"SetLinkDefaultRoute 7 false", "SetLinkLLMNR 7 no", "SetLinkMulticastDNS 7 no", "SetLinkDNSSEC 7 no", "SetLinkDNSOverTLS 7 no",
		"SetLinkDomains 7 [{vm true}]", "SetLinkDNSEx 7 [{2 [127 0 0 1] 42069 }]",
	}
	if got := tell(at); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("told\n%s", strings.Join(got, "\n"))
	}
	if got := tell(at); len(got) > 0 {
		t.Errorf("told again: %q", got)
	}
	if got := tell(netip.MustParseAddrPort("127.0.0.1:42070")); len(got) != len(want) {
		t.Errorf("another port: %q", got)
	}
	if got := tell(netip.AddrPort{}); len(got) != 1 || got[0] != "RevertLink 7 " {
		t.Errorf("forgot by %q", got)
	}
	if err := server.TellResolved(address, 8, at); err != nil || len(p.said()) > 0 {
		t.Errorf("a link that is gone: %v", err)
	}
	p.set(map[string]dbus.Variant{"DNSEx": dbus.MakeVariant("x"), "Domains": dbus.MakeVariant(7)}, "") // whatever it says
	if got := tell(at); len(got) != len(want) {
		t.Errorf("after nonsense: %q", got)
	}
	p.set(map[string]dbus.Variant{}, "SetLinkDomains")
	if err := server.TellResolved(address, 7, at); err == nil || strings.Contains(strings.Join(p.said(), "\n"), "SetLinkDNSEx") {
		t.Errorf("a server without a domain: %v", err)
	}
}

// The host asks a daemon for as long as that is connected, by the link of its
// installation; and asks by the new link where somebody deletes that.
func TestResolve(t *testing.T) {
	netns.Enter(t)
	if err := os.Mkdir("/run/dbus", 0o755); err != nil {
		t.Fatal(err)
	}
	p := pretend(t, bus(t, "/run/dbus/system_bus_socket"))
	start(t, user)
	b, _ := connect(t, user)
	want(t, "without a network", b.ask("resolve 127.0.0.1:42069"), "wrong_state")
	want(t, "set", b.set(config(tap(1))), "ok")
	want(t, "resolve", b.ask("resolve 127.0.0.1:42069"), "ok")
	gateway := func() int {
		l, err := netlink.LinkByName(addr.GatewayName(user, tag))
		if err != nil {
			t.Fatal(err)
		}
		return l.Attrs().Index
	}
	index := gateway()
	last := func(index int) string { return fmt.Sprintf("SetLinkDNSEx %d [{2 [127 0 0 1] 42069 }]", index) }
	if said := p.said(); len(said) == 0 || said[len(said)-1] != last(index) {
		t.Errorf("told %q", said)
	}
	wait := func(what string, is func(string) bool) {
		t.Helper()
		for late := time.After(20 * time.Second); ; {
			select {
			case got := <-p.came:
				if is(got) {
					return
				}
			case <-late:
				t.Fatalf("resolved does not hear of %s", what)
			}
		}
	}
	p.set(map[string]dbus.Variant{}, "") // what was said of a link goes with it
	l, err := netlink.LinkByIndex(index)
	if err == nil {
		err = netlink.LinkDel(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	wait("the new link", func(got string) bool { return strings.HasPrefix(got, "SetLinkDNSEx ") && got != last(index) })
	b.close()
	wait("the end", func(got string) bool { return got == fmt.Sprintf("RevertLink %d ", gateway()) })
	b, _ = connect(t, user)
	want(t, "nobody any more", b.ask("resolve"), "ok")
	want(t, "take back", b.set(config()), "ok")
	want(t, "nobody at all", b.ask("resolve"), "ok")
}

// A bus that says nothing keeps nobody for ever.
func TestTellNobody(t *testing.T) {
	if err := server.TellResolved("unix:path=/nonexistent", 7, netip.MustParseAddrPort("127.0.0.1:42069")); err == nil {
		t.Error("without a bus somebody was told")
	}
}

func TestResolverRequests(t *testing.T) {
	for request, want := range map[string]bool{
		`{"protocol":2,"op":"resolver.set","resolver":{"tag":"ab12","server":"127.0.0.1:42069"}}`:       true,
		`{"protocol":2,"op":"resolver.set","resolver":{"tag":"ab12","server":""}}`:                      true,
		`{"protocol":2,"op":"resolver.set"}`:                                                            false,
		`{"protocol":2,"op":"kvm.allow","resolver":{"tag":"ab12","server":""}}`:                         false,
		`{"protocol":2,"op":"resolver.set","resolver":{"tag":"AB12","server":"127.0.0.1:42069"}}`:       false,
		`{"protocol":2,"op":"resolver.set","resolver":{"tag":"ab12","server":"127.0.0.1:53"}}`:          false,
		`{"protocol":2,"op":"resolver.set","resolver":{"tag":"ab12","server":"192.0.2.1:42069"}}`:       false,
		`{"protocol":2,"op":"resolver.set","resolver":{"tag":"ab12","server":"[::1]:42069"}}`:           false,
		`{"protocol":2,"op":"resolver.set","resolver":{"tag":"ab12","server":"127.0.0.1:42069","x":1}}`: false,
		`{"protocol":1,"op":"resolver.set","resolver":{"tag":"ab12","server":"127.0.0.1:42069"}}`:       false,
	} {
		if !json.Valid([]byte(request)) {
			t.Fatal(request)
		}
		if _, err := privileged.ParseRequest([]byte(request), 0); (err == nil) != want {
			t.Errorf("%s: %v", request, err)
		}
	}
}
