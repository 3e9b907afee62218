package streams_test

import (
	"os"
	"testing"

	"banger/internal/cli/streams"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

func TestTerminal(t *testing.T) {
	host, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	defer tty.Close()
	if err := pty.Setsize(host, &pty.Winsize{Rows: 31, Cols: 77}); err != nil {
		t.Fatal(err)
	}
	s := streams.FromFiles(tty, tty, tty)
	if !s.InTerm || !s.OutTerm || !s.ErrTerm {
		t.Errorf("not a terminal: %+v", s)
	}
	if r, c, ok := s.Size(); r != 31 || c != 77 || !ok {
		t.Errorf("size %d, %d, %v", r, c, ok)
	}
	before := modes(t, tty)
	restore, err := s.Raw()
	if err != nil {
		t.Fatal(err)
	}
	if modes(t, tty) == before {
		t.Error("raw mode changed nothing")
	}
	restore()
	restore()
	if modes(t, tty) != before {
		t.Error("the terminal's modes are not restored")
	}
}

func TestNoTerminal(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	s := streams.FromFiles(null, null, null)
	if _, _, ok := s.Size(); ok || s.InTerm {
		t.Errorf("/dev/null is a terminal: %+v", s)
	}
	restore, err := s.Raw()
	if err != nil {
		t.Error(err)
	}
	restore()
}

func modes(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *m
}
