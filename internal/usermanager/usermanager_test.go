package usermanager_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
	"go.uber.org/goleak"

	"banger/internal/usermanager"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeManager speaks D-Bus at a socket as systemd's private one does, and keeps
// what it was asked. It answers with refuse where that names the method, and it
// is slow to wake: its first message waits for a second one, as systemd's does.
type fakeManager struct {
	dir    string
	refuse string
	move   func(unit string) // called for a scope

	mu    sync.Mutex // guards all but dir
	asked []string
}

// be changes how it behaves.
func (f *fakeManager) be(refuse string, move func(unit string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse, f.move = refuse, move
}

func (f *fakeManager) heard() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

func newFake(t *testing.T) (*fakeManager, *usermanager.Manager) {
	t.Helper()
	dir, err := os.MkdirTemp("", "um,") // a comma, to be escaped; t.TempDir is too long
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeManager{dir: dir}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
		os.RemoveAll(dir)
	})
	return f, usermanager.ForTest(filepath.Join(dir, "s"), dir)
}

func (f *fakeManager) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for { // SASL: whoever it is, it is let in
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch line = strings.TrimLeft(line, "\x00"); {
		case strings.TrimSpace(line) == "AUTH":
			fmt.Fprint(c, "REJECTED EXTERNAL\r\n")
		case strings.HasPrefix(line, "AUTH EXTERNAL"):
			fmt.Fprint(c, "OK 0123456789abcdef0123456789abcdef\r\n")
		case strings.HasPrefix(line, "BEGIN"):
			f.answer(c, in)
			return
		default:
			fmt.Fprint(c, "ERROR\r\n")
		}
	}
}

func (f *fakeManager) answer(c net.Conn, in *bufio.Reader) {
	held, err := dbus.DecodeMessage(in)
	for err == nil {
		var next *dbus.Message
		next, err = dbus.DecodeMessage(in)
		if held != nil && err == nil {
			f.reply(c, held)
			held = nil
		}
		if err == nil {
			f.reply(c, next)
		}
	}
}

func (f *fakeManager) reply(c net.Conn, m *dbus.Message) {
	member := m.Headers[dbus.FieldMember].Value().(string)
	r := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(m.Serial()),
	}}
	f.mu.Lock()
	defer f.mu.Unlock()
	if member == f.refuse {
		r.Type = dbus.TypeError
		r.Headers[dbus.FieldErrorName] = dbus.MakeVariant("org.freedesktop.systemd1.NoSuchUnit")
	}
	if member != "Ping" {
		f.asked = append(f.asked, fmt.Sprint(member, " ", m.Body))
	}
	if f.move != nil && member == "StartTransientUnit" {
		f.move(m.Body[0].(string))
	}
	_ = r.EncodeTo(c, binary.LittleEndian)
}

func TestScope(t *testing.T) {
	f, m := newFake(t)
	place := func(unit string) {
		dir := filepath.Join(f.dir, "77")
		_ = os.MkdirAll(dir, 0o700)
		_ = os.WriteFile(filepath.Join(dir, "cgroup"), []byte("1:name=x:/\n0::/user.slice/"+unit+"\n"), 0o600)
	}
	state := func(stat string) {
		if err := os.WriteFile(filepath.Join(f.dir, "77", "stat"), []byte(stat), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	place("session-1.scope")
	state("77 (q) Z emu) S 1 77 77 0")
	f.be("", place)
	if err := m.Scope(t.Context(), 77, "banger-x", "a VM"); err != nil {
		t.Fatal(err)
	}
	if got := m.Unit(77); got != "banger-x.scope" {
		t.Errorf("it is in %q", got)
	}
	if got := strings.Join(f.heard(), "\n"); !strings.HasPrefix(got, "StartTransientUnit [banger-x.scope fail ") || !strings.Contains(got, "PIDs") || !strings.Contains(got, "77") {
		t.Errorf("asked %s", got)
	}
	f.be("", nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Scope(ctx, 77, "banger-y", ""); err == nil {
		t.Error("a process that never arrives arrived")
	}
	if got := f.heard(); slices.Contains(got, "StopUnit [banger-y.scope replace]") {
		t.Errorf("a scope that may still come to hold a process is stopped: %q", got)
	}
	state("77 (q) S emu) Z 1 77 77 0")
	if err := m.Scope(t.Context(), 77, "banger-z", ""); err == nil {
		t.Error("a process that has ended arrived")
	}
	if got := f.heard(); !slices.Contains(got, "StopUnit [banger-z.scope replace]") {
		t.Errorf("a scope that nobody came to is left: %q", got)
	}
}

func TestUnits(t *testing.T) {
	f, m := newFake(t)
	path := filepath.Join(f.dir, "units", usermanager.UnitName)
	u := usermanager.Unit{Exe: `/opt/a "b"/100%$x/bangerd`, Before: []string{"/bin/sudo", "-n", "/a b"}, Env: []string{"BANGER_STATE_DIR=/s s"}, UID: 1000}
	if err := u.Write(path); err != nil {
		t.Fatal(err)
	}
	if err := u.Write(path); err != nil { // again
		t.Fatal(err)
	}
	if all, err := filepath.Glob(filepath.Join(f.dir, "units", "*")); err != nil || len(all) != 1 {
		t.Errorf("files %v, %v", all, err)
	}
	text, err := os.ReadFile(path)
	for _, want := range []string{`ExecStartPre=-"/bin/sudo" "-n" "/a b"` + "\n", `ExecStart="/opt/a \"b\"/100%%$$x/bangerd"` + "\n", `Environment="BANGER_STATE_DIR=/s s"` + "\n", "KillMode=process\n", "WantedBy=default.target\n"} {
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	other, moved := u, u
	other.Env, moved.Exe = []string{"BANGER_STATE_DIR=/s"}, "/bangerd"
	for name, c := range map[string]struct {
		u          usermanager.Unit
		runs, same bool
	}{"itself": {u, true, true}, "another state": {other, false, false}, "another program": {moved, false, true}} {
		if same, err := c.u.SameState(path); err != nil || same != c.same || c.u.Runs(path) != c.runs {
			t.Errorf("%s: same %v, runs %v, %v", name, same, c.u.Runs(path), err)
		}
	}
	if err := errors.Join(m.Enable(t.Context(), path), m.Start(t.Context(), usermanager.UnitName), m.Stop(t.Context(), usermanager.UnitName), m.Forget(t.Context(), path)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after it was forgotten: %v", err)
	}
	want := []string{"Reload []", "EnableUnitFiles [[bangerd.service] false true]", "StartUnit [bangerd.service replace]", "StopUnit [bangerd.service replace]", "DisableUnitFiles [[bangerd.service] false]", "Reload []"}
	if got := f.heard(); !slices.Equal(got, want) {
		t.Errorf("asked %q", got)
	}
	f.be("StartUnit", nil)
	if err := m.Start(t.Context(), usermanager.UnitName); err == nil || errors.Is(err, usermanager.ErrAbsent) {
		t.Errorf("a refusal is %v", err)
	}
}

// Without a manager everything says so, and what can be taken back is.
func TestAbsent(t *testing.T) {
	dir := t.TempDir()
	m := usermanager.ForTest(filepath.Join(dir, "none"), dir)
	for what, err := range map[string]error{
		"reachable": m.Reachable(), "scope": m.Scope(t.Context(), 1, "x", ""), "start": m.Start(t.Context(), "x"), "enable": m.Enable(t.Context(), "x"),
	} {
		if !errors.Is(err, usermanager.ErrAbsent) {
			t.Errorf("%s: %v", what, err)
		}
	}
	path, wants := filepath.Join(dir, usermanager.UnitName), filepath.Join(dir, "default.target.wants")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Mkdir(wants, 0o700), os.Symlink(path, filepath.Join(wants, usermanager.UnitName))); err != nil {
		t.Fatal(err)
	}
	if err := m.Forget(t.Context(), path); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(wants); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestBeneath(t *testing.T) {
	dir := t.TempDir()
	m := usermanager.ForTest(filepath.Join(dir, "none"), dir)
	uid := os.Getuid()
	if err := os.Mkdir(filepath.Join(dir, "self"), 0o700); err != nil {
		t.Fatal(err)
	}
	for cgroup, want := range map[string]bool{
		fmt.Sprintf("/user.slice/user@%d.service/app.slice/x.scope", uid):  true,
		fmt.Sprintf("/user.slice/user@%d.service", uid):                    true,
		fmt.Sprintf("/user.slice/user@%d1.service/app.slice/x.scope", uid): false,
		fmt.Sprintf("/user.slice/user-%d.slice/session-3.scope", uid):      false,
		"": false,
	} {
		if err := os.WriteFile(filepath.Join(dir, "self", "cgroup"), []byte("0::"+cgroup+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := m.Beneath(); got != want {
			t.Errorf("%s: %v", cgroup, got)
		}
	}
}
