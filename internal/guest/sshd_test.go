package guest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"banger/internal/guest"
	"banger/internal/guestapi"
	"banger/internal/inguest/sshd"
)

type machine struct{ how chan string }

func (machine) Status() guestapi.Status { return guestapi.Status{Version: guestapi.Version} }
func (machine) WaitBooted(context.Context) guestapi.Status {
	return guestapi.Status{Version: guestapi.Version, Booted: true}
}
func (m machine) Shutdown(how string) error { m.how <- how; return nil }

// realGuest connects to the guest program's own server, which runs here as us.
func realGuest(t *testing.T) (*guest.Conn, machine) {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	passwd := fmt.Sprintf("root:x:%d:%d::/:/bin/sh\n", os.Geteuid(), os.Getegid())
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	private, public, err := guest.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	key, m := newKey(t), machine{make(chan string, 1)}
	srv, err := sshd.New(sshd.Config{
		HostKey: private, AuthorizedKeys: []string{guest.AuthorizedKey(key.PublicKey())}, Machine: m, Root: root,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		srv.Serve(l)
		close(served)
	}()
	t.Cleanup(func() {
		l.Close()
		<-served
		srv.Close()
	})
	return dialTCP(t, l.Addr().String(), public, key), m
}

func dialTCP(t *testing.T, addr string, hostKey ssh.PublicKey, key ssh.Signer) *guest.Conn {
	t.Helper()
	c, status, err := guest.WaitReady(limited(t), guest.Config{
		HostKey: hostKey, Signer: key,
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if status.Version != guestapi.Version {
		t.Errorf("status %+v", status)
	}
	return c
}

func TestGuestProgram(t *testing.T) {
	c, m := realGuest(t)
	for name, tc := range map[string]struct {
		cmd    guestapi.Exec
		stdin  string
		out    string
		errOut string
		exit   guest.Exit
	}{
		"argv":      {cmd: guestapi.Exec{Argv: []string{"printf", "<%s>", "a b", "$HOME", "", "'"}}, out: "<a b><$HOME><><'>"},
		"stdin":     {cmd: argv("cat"), stdin: "hello", out: "hello"},
		"status":    {cmd: argv("false"), exit: guest.Exit{Code: 1}},
		"signal":    {cmd: guestapi.Exec{Argv: []string{"sh", "-c", "kill -KILL $$"}}, exit: guest.Exit{Signal: "KILL"}},
		"env":       {cmd: guestapi.Exec{Argv: []string{"sh", "-c", "echo $A >&2"}, Env: []string{"A=b=c"}}, errOut: "b=c\n"},
		"dir":       {cmd: guestapi.Exec{Argv: []string{"pwd"}, Dir: "/usr"}, out: "/usr\n"},
		"not there": {cmd: argv("/nonexistent"), errOut: "banger: /nonexistent: command not found\n", exit: guest.Exit{Code: 127}},
		"shell":     {cmd: guestapi.Exec{Env: []string{"A=b"}}, stdin: "echo $A; exit 3", out: "b\n", exit: guest.Exit{Code: 3}},
		"shell in":  {cmd: guestapi.Exec{Dir: "/usr"}, stdin: "pwd; exit 4", out: "/usr\n", exit: guest.Exit{Code: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			exit, err := c.Exec(limited(t), tc.cmd, guest.Streams{Stdin: strings.NewReader(tc.stdin), Stdout: &out, Stderr: &errOut})
			if err != nil || exit != tc.exit || out.String() != tc.out || errOut.String() != tc.errOut {
				t.Errorf("exit %+v, %v, stdout %q, stderr %q", exit, err, &out, &errOut)
			}
		})
	}
	if s, err := c.WaitBooted(limited(t)); err != nil || !s.Booted {
		t.Errorf("WaitBooted: %+v, %v", s, err)
	}
	if err := c.Shutdown(limited(t), "reboot"); err != nil || <-m.how != "reboot" {
		t.Errorf("Shutdown: %v", err)
	}
}

// TestGuestTerminal: size, resize and Ctrl-C as a key.
func TestGuestTerminal(t *testing.T) {
	c, _ := realGuest(t)
	r, w := io.Pipe()
	out, in := io.Pipe()
	sizes := make(chan guest.Size)
	type result struct {
		exit guest.Exit
		err  error
	}
	ended := make(chan result)
	go func() {
		cmd := guestapi.Exec{Argv: []string{"sh", "-c", `trap 'stty size' WINCH; stty size; while :; do read x && stty size; done`}}
		exit, err := c.Exec(limited(t), cmd, guest.Streams{
			Stdin: r, Stdout: in, TTY: &guest.PTY{Term: "xterm", Rows: 11, Cols: 22}, Resize: sizes,
		})
		in.Close()
		ended <- result{exit, err}
	}()
	var seen strings.Builder
	expect := func(what string) {
		t.Helper()
		buf := make([]byte, 1024)
		for !strings.Contains(seen.String(), what) {
			n, err := out.Read(buf)
			if err != nil {
				t.Fatalf("%v after %q", err, seen.String())
			}
			seen.Write(buf[:n])
			w.Write([]byte("\n")) // have the size told again: a new one may have come later
		}
	}
	expect("11 22")
	sizes <- guest.Size{Rows: 33, Cols: 44}
	w.Write([]byte("\n"))
	expect("33 44")
	go io.Copy(io.Discard, out)
	w.Write([]byte{3})
	if got := <-ended; got.err != nil || got.exit.Signal != "INT" && got.exit.Code != 130 {
		t.Errorf("%+v after %q", got, seen.String())
	}
	r.Close()
}
