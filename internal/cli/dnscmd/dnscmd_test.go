package dnscmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger"
	"banger/internal/api"
	"banger/internal/cli/dnscmd"
	"banger/internal/cli/streams"
	"banger/internal/resolver"
)

// A host with a daemon and a resolver that has read its file, or has not.
type host struct {
	t        *testing.T
	dir      string
	status   api.Status
	root     bool
	resolves bool
	reloaded []string
	broken   error // what reloading says
}

func newHost(t *testing.T) *host {
	h := &host{t: t, dir: t.TempDir(), status: api.Status{Tag: "ab12", Build: "b1", DNS: &api.DNSInfo{
		Listen: "127.0.0.1:42069", Wanted: "127.0.0.1:42069", Zone: "vm", Probe: "_banger-ab12.vm",
	}}}
	h.write("etc/resolv.conf", "nameserver 127.0.0.53\n")
	h.write("etc/systemd/resolved.conf", "")
	return h
}

func (h *host) write(name, text string) {
	h.t.Helper()
	p := filepath.Join(h.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
		h.t.Fatal(err)
	}
}

const dropIn = "etc/systemd/resolved.conf.d/banger.conf"

func (h *host) dropIn() string {
	b, err := os.ReadFile(filepath.Join(h.dir, dropIn))
	if err != nil {
		return ""
	}
	return string(b)
}

func (h *host) DaemonStatus(context.Context) (api.Status, error) { return h.status, nil }

// run runs banger dns with these arguments.
func (h *host) run(args ...string) (out, errs string, err error) {
	h.t.Helper()
	s, _, o, e := streams.Test()
	get := func(context.Context) (dnscmd.Client, error) { return h, nil }
	cmd := dnscmd.New(dnscmd.Env{IO: s, Connect: get, Find: get, Host: dnscmd.Host{
		Host: resolver.Host{Root: h.dir}, Root: h.root,
		Ask: func(_ context.Context, name string) ([]netip.Addr, error) {
			if !h.resolves || name != "_banger-ab12.vm" {
				return nil, errors.New("not known")
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		},
		Run: func(_ context.Context, argv []string) error {
			h.reloaded = append(h.reloaded, strings.Join(argv, " "))
			h.resolves = h.broken == nil && strings.Contains(h.dropIn(), "42069")
			return h.broken
		},
	}})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(new(bytes.Buffer))
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(h.t.Context())
	return o.String(), e.String(), err
}

func (h *host) state() (s dnscmd.Status) {
	h.t.Helper()
	out, _, err := h.run("status", "-o", "json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func TestAsRoot(t *testing.T) {
	h := newHost(t)
	h.root = true
	if s := h.state(); s.Resolves || s.Resolver != "resolved" || len(s.SetUp) != 0 || s.Advice != "banger dns install" {
		t.Errorf("%+v", s)
	}
	if _, errs, err := h.run("install"); err != nil || !strings.Contains(errs, "now") {
		t.Fatal(errs, err)
	}
	if s := h.state(); !s.Resolves || len(s.SetUp) != 1 || s.SetUp[0].Listen != "127.0.0.1:42069" || s.Advice != "" {
		t.Errorf("%+v", s)
	}
	was := h.dropIn()
	if out, errs, err := h.run("install"); err != nil || out != "" || !strings.Contains(errs, "already") || h.dropIn() != was || len(h.reloaded) != 1 {
		t.Errorf("once more: %q %q %v, reloaded %q", out, errs, err, h.reloaded)
	}
	h.status.DNS.Listen, h.resolves = "127.0.0.1:43000", false
	if s := h.state(); !strings.Contains(s.Advice, "banger dns install") {
		t.Errorf("on another port: %+v", s)
	}
	if _, _, err := h.run("uninstall"); err != nil || h.dropIn() != "" || len(h.reloaded) != 2 {
		t.Errorf("%v, %q, %q", err, h.dropIn(), h.reloaded)
	}
	if _, err := os.Stat(filepath.Join(h.dir, filepath.Dir(dropIn))); err == nil {
		t.Error("the directory that was made for it is left")
	}
	if out, errs, err := h.run("uninstall"); err != nil || out != "" || !strings.Contains(errs, "no resolver") || len(h.reloaded) != 2 {
		t.Errorf("once more: %q %q %v", out, errs, err)
	}
}

// A resolver that did not read its file is told once more the next time.
func TestReloadFails(t *testing.T) {
	h := newHost(t)
	h.root, h.broken = true, banger.Errorf(banger.HostUnready, "no")
	if _, _, err := h.run("install"); !errors.Is(err, h.broken) {
		t.Error(err)
	}
	h.broken = nil
	if _, _, err := h.run("install"); err != nil || !h.state().Resolves || len(h.reloaded) != 2 {
		t.Errorf("%v, %q", err, h.reloaded)
	}
}

func TestAsAUser(t *testing.T) {
	h := newHost(t)
	out, _, err := h.run("install")
	if err != nil || h.dropIn() != "" || h.reloaded != nil {
		t.Fatal(err, h.dropIn(), h.reloaded)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "'DNS=127.0.0.1:42069' 'Domains=~vm' | sudo ") || lines[1] != "sudo systemctl restart systemd-resolved.service" {
		t.Errorf("%q", out)
	}
	var all []dnscmd.Change
	out, _, err = h.run("install", "-o", "json", "--resolver", "dnsmasq")
	if err := errors.Join(err, json.Unmarshal([]byte(out), &all)); err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || all[0].Done || all[0].Resolver != "dnsmasq" || len(all[0].Commands) != 2 || !strings.Contains(all[0].Content, "server=/vm/127.0.0.1#42069\n") {
		t.Errorf("%+v", all)
	}
	h.root = true
	if _, _, err := h.run("install"); err != nil {
		t.Fatal(err)
	}
	h.root = false
	out, _, err = h.run("uninstall")
	if err != nil || h.dropIn() == "" || !strings.HasPrefix(out, "sudo rm /"+dropIn+"\nsudo rmdir ") {
		t.Errorf("%q, %v", out, err)
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*host)
		args   []string
		code   banger.Code
		word   string
	}{
		"no such resolver":   {func(*host) {}, []string{"install", "--resolver", "bind"}, banger.Invalid, "bind"},
		"no names":           {func(h *host) { h.status.DNS.Listen, h.status.DNS.Wanted = "", "" }, []string{"install"}, banger.WrongState, "no names"},
		"an older daemon":    {func(h *host) { h.status.DNS = nil }, []string{"install"}, banger.WrongState, "older"},
		"and its status":     {func(h *host) { h.status.DNS = nil }, []string{"status"}, banger.WrongState, "older"},
		"nothing to be told": {func(h *host) { h.write("etc/resolv.conf", "nameserver 192.0.2.1\n") }, []string{"install"}, banger.HostUnready, "192.0.2.1"},
		"somebody's file":    {func(h *host) { h.write(dropIn, "[Resolve]\n") }, []string{"install"}, banger.Exists, "not banger's"},
	} {
		h := newHost(t)
		h.root = true
		c.change(h)
		was := h.dropIn()
		_, _, err := h.run(c.args...)
		if e := banger.AsError(err); e == nil || e.Code != c.code || e.Remedy == "" || !strings.Contains(e.Message, c.word) {
			t.Errorf("%s: %+v", name, e)
		}
		if h.dropIn() != was || h.reloaded != nil {
			t.Errorf("%s: changed all the same", name)
		}
	}
}

func TestStatusInWords(t *testing.T) {
	h := newHost(t)
	h.status.DNS.Listen, h.status.DNS.Problem = "127.0.0.1:43000", "127.0.0.1:42069 is taken by named (process 7)"
	out, _, err := h.run("status")
	for _, want := range []string{"127.0.0.1:43000 (127.0.0.1:42069 is taken by named (process 7))", "no (_banger-ab12.vm: not known)", "banger dns install"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%v\n%s\nwithout %q", err, out, want)
		}
	}
}

// Servers elsewhere cannot know a VM, and are not asked for one.
func TestNobodyElseIsAsked(t *testing.T) {
	h := newHost(t)
	h.resolves = true // if it were asked
	h.write("etc/resolv.conf", "nameserver 192.0.2.1\n")
	if s := h.state(); s.Resolves || !strings.Contains(s.Answer, "elsewhere") || !strings.Contains(s.Advice, "192.0.2.1") {
		t.Errorf("%+v", s)
	}
}
