package sshd_test

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"

	"banger/internal/inguest/sshd"
)

// TestTerminal drives the real ssh(1) on a real terminal.
func TestTerminal(t *testing.T) {
	g := newGuest(t)
	cmd := g.ssh(t, []string{"-tt"}, `stty size; echo $TERM; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.05; done`)
	cmd.Env = append(os.Environ(), "TERM=no-such-terminal")
	near, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 31, Cols: 97})
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	r := bufio.NewReader(near)
	for _, want := range []string{"31 97", "xterm-256color", "ready"} {
		if got := readLine(t, r); got != want {
			t.Errorf("said %q, want %q", got, want)
		}
	}
	if err := pty.Setsize(near, &pty.Winsize{Rows: 40, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	if got := readLine(t, r); got != "40 120" {
		t.Errorf("after the resize: %q", got)
	}
	if cmd.Wait(); cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("ended with %v", cmd.ProcessState)
	}
}

// TestTerminalEnds: what ends a shell on a terminal ends the session, also with
// a program left in the background.
func TestTerminalEnds(t *testing.T) {
	g := newGuest(t)
	cmd := g.ssh(t, []string{"-tt"})
	near, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	if _, err := near.WriteString("stty -echo; sleep 1000 & exit 9\n"); err != nil {
		t.Fatal(err)
	}
	for r := bufio.NewReader(near); ; {
		if _, err := r.ReadByte(); err != nil { // EIO: the other end is closed
			break
		}
	}
	if cmd.Wait(); cmd.ProcessState.ExitCode() != 9 {
		t.Errorf("ended with %v", cmd.ProcessState)
	}
}

func TestTerm(t *testing.T) {
	for name, c := range map[string]struct{ has, want, get string }{
		"known":         {"x/xterm-kitty x/xterm", "xterm-kitty", "xterm-kitty"},
		"hex directory": {"78/xterm-kitty", "xterm-kitty", "xterm-kitty"},
		"unknown":       {"x/xterm-256color x/xterm", "xterm-kitty", "xterm-256color"},
		"old":           {"x/xterm v/vt100", "xterm-kitty", "xterm"},
		"ancient":       {"v/vt100", "xterm-kitty", "vt100"},
		"no terminfo":   {"", "xterm-kitty", "xterm-kitty"},
		"a path":        {"v/vt100", "../v/vt100", "vt100"},
		"nonsense":      {"", "/etc/passwd", "vt100"},
	} {
		root := t.TempDir()
		for file := range strings.FieldsSeq(c.has) {
			file = filepath.Join(root, "usr/share/terminfo", file)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := sshd.Term(root, c.want, sshd.Account{Home: "/root"}); got != c.get {
			t.Errorf("%s: %q, want %q", name, got, c.get)
		}
	}
}
