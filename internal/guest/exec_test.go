package guest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"banger/internal/guest"
	"banger/internal/guestapi"
)

func TestExecPassesAllThrough(t *testing.T) {
	want := guestapi.Exec{Argv: []string{"cat", "a b", "", "$HOME", "caf\xe9"}, Env: []string{"A=b=c", "B=\xff"}, Dir: "/tmp/\xe9", User: "me"}
	c, _ := connect(t, func(s *session) {
		if !reflect.DeepEqual(s.exec, want) {
			t.Errorf("guest got %+v", s.exec)
		}
		io.Copy(s, s)
		io.WriteString(s.Stderr(), "and this")
		s.exit(7)
	})
	var out, errOut bytes.Buffer
	in := strings.Repeat("0123456789", 1<<19) // 5 MiB: more than the window
	exit, err := c.Exec(limited(t), want, guest.Streams{Stdin: strings.NewReader(in), Stdout: &out, Stderr: &errOut})
	if err != nil || exit != (guest.Exit{Code: 7}) {
		t.Errorf("exit %+v, %v", exit, err)
	}
	if out.String() != in || errOut.String() != "and this" {
		t.Errorf("%d bytes of output, stderr %q", out.Len(), &errOut)
	}
}

func TestExecEnds(t *testing.T) {
	long := strings.Repeat("A", 100)
	for name, tc := range map[string]struct {
		run  func(*session)
		want guest.Exit
		err  error
	}{
		"status": {func(s *session) { s.exit(255) }, guest.Exit{Code: 255}, nil},
		"signal": {func(s *session) { s.killed("KILL") }, guest.Exit{Signal: "KILL"}, nil},
		"after EOF": {func(s *session) {
			s.CloseWrite()
			s.exit(3)
		}, guest.Exit{Code: 3}, nil},
		"without a status":      {func(*session) {}, guest.Exit{}, guest.ErrLost},
		"with escapes":          {func(s *session) { s.killed("\x1b[2J") }, guest.Exit{}, guest.ErrLost},
		"with a long name":      {func(s *session) { s.killed(long) }, guest.Exit{}, guest.ErrLost},
		"with half a status":    {func(s *session) { s.SendRequest("exit-status", false, []byte{0, 0}) }, guest.Exit{}, guest.ErrLost},
		"with a wanted answer":  {func(s *session) { s.SendRequest("exit-status", true, []byte{0, 0, 0, 1}) }, guest.Exit{Code: 1}, nil},
		"with unknown requests": {func(s *session) { s.SendRequest("x@y", true, nil); s.exit(1) }, guest.Exit{Code: 1}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := connect(t, tc.run)
			exit, err := c.Exec(limited(t), argv("x"), guest.Streams{})
			if exit != tc.want || !errors.Is(err, tc.err) {
				t.Errorf("got %+v, %v", exit, err)
			}
		})
	}
}

func TestExecRefused(t *testing.T) {
	c, _ := connect(t, nil)
	if _, err := c.Exec(limited(t), argv("refused"), guest.Streams{}); !errors.Is(err, guest.ErrRefused) {
		t.Errorf("got %v", err)
	}
}

func TestShell(t *testing.T) {
	c, _ := connect(t, func(s *session) {
		switch {
		case s.shell && (s.pty != "vt100" || !reflect.DeepEqual(s.env, []string{"A=b"})):
			t.Errorf("terminal %q, environment %q", s.pty, s.env)
		case !s.shell && (s.exec.User != "me" || len(s.exec.Argv) == 0):
			t.Errorf("shell as another user is %+v", s.exec)
		}
		s.exit(0)
	})
	tty := guest.Streams{TTY: &guest.PTY{Term: "vt100", Rows: 24, Cols: 80}}
	if _, err := c.Exec(limited(t), guestapi.Exec{Env: []string{"A=b"}}, tty); err != nil {
		t.Error(err)
	}
	if _, err := c.Exec(limited(t), guestapi.Exec{User: "me"}, tty); err != nil {
		t.Error(err)
	}
}

// TestSignalOvertakesStdin: the command reads nothing, and is interrupted.
func TestSignalOvertakesStdin(t *testing.T) {
	c, _ := connect(t, func(s *session) {
		for m := range s.control {
			if m["signal"] == "INT" {
				s.killed("INT")
				return
			}
		}
	})
	signals, sizes := make(chan string), make(chan guest.Size)
	stdin, w := io.Pipe()
	defer stdin.Close()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range 4 << 20 / 4096 { // twice the window: the last Writes block
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	}()
	go func() {
		sizes <- guest.Size{Rows: 1, Cols: 2}
		signals <- "INT"
	}()
	exit, err := c.Exec(limited(t), argv("sleep"), guest.Streams{Stdin: stdin, Signals: signals, Resize: sizes})
	if err != nil || exit.Signal != "INT" {
		t.Errorf("got %+v, %v", exit, err)
	}
	stdin.Close()
	<-sent
}

// TestSlowOutputBlocksNobodyElse: one command's output is not read at all.
func TestSlowOutputBlocksNobodyElse(t *testing.T) {
	flooding := make(chan struct{})
	c, _ := connect(t, func(s *session) {
		if s.exec.Argv[0] != "flood" {
			io.WriteString(s, "quick")
			s.exit(0)
			return
		}
		s.Write(make([]byte, 1<<20))
		close(flooding)
		for { // until the channel is closed
			if _, err := s.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
	ctx, cancel := context.WithCancel(limited(t))
	r, w := io.Pipe()
	slow := make(chan error)
	go func() {
		_, err := c.Exec(ctx, argv("flood"), guest.Streams{Stdout: w})
		slow <- err
	}()
	<-flooding
	for range 20 {
		var out bytes.Buffer
		if _, err := c.Exec(limited(t), argv("quick"), guest.Streams{Stdout: &out}); err != nil || out.String() != "quick" {
			t.Fatalf("got %q, %v", &out, err)
		}
	}
	cancel()
	r.Close() // unblocks the output, as Exec demands of its caller
	if err := <-slow; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestContextHangsUp: the guest sees its channel closed.
func TestContextHangsUp(t *testing.T) {
	began, hungUp := make(chan struct{}), make(chan struct{})
	c, _ := connect(t, func(s *session) {
		close(began)
		for range s.control {
		}
		close(hungUp)
	})
	ctx, cancel := context.WithCancel(limited(t))
	go func() {
		<-began
		cancel()
	}()
	if _, err := c.Exec(ctx, argv("sleep"), guest.Streams{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-hungUp
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestBrokenOutput(t *testing.T) {
	c, _ := connect(t, func(s *session) {
		for {
			if _, err := s.Write([]byte("y\n")); err != nil {
				return
			}
		}
	})
	if _, err := c.Exec(limited(t), argv("yes"), guest.Streams{Stdout: brokenWriter{}}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
}

// TestBrokenStdin: the guest sees a hang-up, not the end of a file.
func TestBrokenStdin(t *testing.T) {
	hungUp := make(chan struct{})
	c, _ := connect(t, func(s *session) {
		for range s.control {
		}
		close(hungUp)
	})
	stdin := io.MultiReader(strings.NewReader("rm -r /tmp"), iotest.ErrReader(io.ErrUnexpectedEOF))
	if _, err := c.Exec(limited(t), argv("sh"), guest.Streams{Stdin: stdin}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	<-hungUp
}

func TestLostWhileRunning(t *testing.T) {
	began := make(chan struct{})
	c, g := connect(t, func(s *session) {
		close(began)
		for range s.control {
		}
	})
	go func() {
		<-began
		g.closeConns()
	}()
	if _, err := c.Exec(limited(t), argv("sleep"), guest.Streams{}); !errors.Is(err, guest.ErrLost) {
		t.Errorf("got %v", err)
	}
}
