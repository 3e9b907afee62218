package vmcmd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger"
	"banger/internal/api"
	"banger/internal/cli/streams"
	"banger/internal/cli/vmcmd"

	"github.com/creack/pty"
)

// guest is what a fake guest does with a command.
type guest = func(context.Context, api.ExecRequest, api.ExecStreams) (api.ExecExit, error)

// echo copies stdin, says something on stderr and ends as told.
func echo(exit api.ExecExit) guest {
	return func(_ context.Context, _ api.ExecRequest, s api.ExecStreams) (api.ExecExit, error) {
		if _, err := io.Copy(s.Stdout, s.Stdin); err != nil {
			return api.ExecExit{}, err
		}
		fmt.Fprint(s.Stderr, "said")
		return exit, nil
	}
}

func TestExecPassesThrough(t *testing.T) {
	s := newSession(t, nil)
	s.exec = echo(api.ExecExit{})
	s.in.WriteString("some\x00bytes")
	if err := s.run(t.Context(), "exec", "web", "--", "cat", "-n", "a b"); err != nil {
		t.Fatal(err)
	}
	if s.out.String() != "some\x00bytes" || s.err.String() != "said" {
		t.Errorf("got %q, %q", s.out, s.err)
	}
	if got, want := s.requests(), `vm.exec {"vm":"web","argv":["cat","-n","a b"],"stdin":true}`; got != want {
		t.Errorf("sent %s", got)
	}
}

func TestExecRequest(t *testing.T) {
	for args, want := range map[string]api.ExecRequest{
		"exec web -e A=1 -e B -e NONE -e C= -w /srv -u joe -n -- ls": {
			VM: "web", Argv: []string{"ls"}, Env: []string{"A=1", "B=bee", "C="}, Dir: "/srv", User: "joe",
		},
		"exec web -e A=\xff -w /d\xe9 -- caf\xe9": {VM: "web", Argv: []string{"caf\xe9"}, Env: []string{"A=\xff"}, Dir: "/d\xe9", Stdin: true},
		"exec web -it -- ls":                      {VM: "web", Argv: []string{"ls"}, TTY: true, Term: "vt220", Stdin: true},
		"vm exec web -- ls":                       {VM: "web", Argv: []string{"ls"}, Stdin: true},
	} {
		s := newSession(t, map[string]any{api.VMShow: web})
		env := map[string]string{"B": "bee", "TERM": "vt220"}
		s.io.LookupEnv = func(name string) (string, bool) { v, ok := env[name]; return v, ok }
		var got api.ExecRequest
		s.exec = func(_ context.Context, r api.ExecRequest, _ api.ExecStreams) (api.ExecExit, error) {
			got = r
			return api.ExecExit{}, nil
		}
		if err := s.run(t.Context(), strings.Fields(args)...); err != nil {
			t.Error(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", args, got, want)
		}
	}
}

func TestExecEnds(t *testing.T) {
	for _, c := range []struct {
		name  string
		exec  guest
		guest int // its code; 0: none
		own   bool
		code  banger.Code
	}{
		{"code 7", echo(api.ExecExit{Code: 7}), 7, false, ""},
		{"code 125", echo(api.ExecExit{Code: 125}), 125, false, ""},
		{"signal", echo(api.ExecExit{Signal: "KILL"}), 137, false, ""},
		{"no such signal", echo(api.ExecExit{Signal: "NOPE"}), 0, true, banger.Internal},
		{"connection lost", func(context.Context, api.ExecRequest, api.ExecStreams) (api.ExecExit, error) {
			return api.ExecExit{}, errors.New("lost")
		}, 0, true, banger.Internal},
		{"refused", nil, 0, false, banger.NotFound},
	} {
		s := newSession(t, nil)
		s.exec = c.exec
		err := s.run(t.Context(), "exec", "web", "--", "x")
		var g *vmcmd.GuestExit
		var own *vmcmd.OwnFailure
		switch {
		case c.guest != 0:
			if !errors.As(err, &g) || g.Code != c.guest {
				t.Errorf("%s: %v", c.name, err)
			}
		case errors.As(err, &own) != c.own || banger.CodeOf(err) != c.code:
			t.Errorf("%s: %#v", c.name, err)
		}
	}
}

// A signal that we get reaches the command; at the third it is left alone.
func TestExecSignals(t *testing.T) {
	for patient, want := range map[bool]string{true: "guest", false: "left"} {
		s := newSession(t, nil)
		s.exec = func(ctx context.Context, _ api.ExecRequest, st api.ExecStreams) (api.ExecExit, error) {
			for range 3 {
				if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
					return api.ExecExit{}, err
				}
				select {
				case name := <-st.Signals:
					if patient {
						return api.ExecExit{Signal: name}, nil
					}
				case <-ctx.Done(): // the third came with the end
				}
			}
			<-ctx.Done()
			return api.ExecExit{}, ctx.Err()
		}
		err := s.run(t.Context(), "exec", "web", "--", "x")
		var g *vmcmd.GuestExit
		switch want {
		case "guest":
			if !errors.As(err, &g) || g.Code != 130 {
				t.Errorf("got %v", err)
			}
		case "left":
			if banger.CodeOf(err) != banger.Canceled {
				t.Errorf("got %v", err)
			}
		}
	}
}

// Only Ctrl-C in a row is impatience.
func TestPresses(t *testing.T) {
	const s = time.Second
	if got := vmcmd.Presses(0, s/2, s, 10*s, 11*s, 13*s, 13*s, 20*s); !reflect.DeepEqual(got, []bool{false, false, true, false, false, false, true, false}) {
		t.Errorf("got %v", got)
	}
}

// A program may send its command the same signal as often as it likes.
func TestExecManySignals(t *testing.T) {
	s := newSession(t, nil)
	s.exec = func(ctx context.Context, _ api.ExecRequest, st api.ExecStreams) (api.ExecExit, error) {
		for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGTERM} {
			for range 5 {
				if err := syscall.Kill(os.Getpid(), sig); err != nil {
					return api.ExecExit{}, err
				}
				select {
				case <-st.Signals:
				case <-ctx.Done():
					return api.ExecExit{}, ctx.Err()
				}
			}
		}
		return api.ExecExit{Code: 7}, nil
	}
	var g *vmcmd.GuestExit
	if err := s.run(t.Context(), "exec", "web", "--", "x"); !errors.As(err, &g) || g.Code != 7 {
		t.Errorf("got %v", err)
	}
}

// On a terminal every key is the guest's, the size is told, and the terminal is
// as it was afterwards.
func TestExecOnATerminal(t *testing.T) {
	host, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	defer tty.Close()
	if err := pty.Setsize(host, &pty.Winsize{Rows: 30, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	s := newSession(t, map[string]any{api.VMShow: web})
	lookup := s.io.LookupEnv
	s.io = streams.FromFiles(tty, tty, tty)
	s.io.LookupEnv = lookup
	s.exec = func(_ context.Context, r api.ExecRequest, st api.ExecStreams) (api.ExecExit, error) {
		if !r.TTY || r.Rows != 30 || r.Cols != 100 {
			return api.ExecExit{}, fmt.Errorf("asked for %+v", r)
		}
		fmt.Fprint(host, "\x03") // Ctrl-C: a byte, no signal
		key := make([]byte, 1)
		if _, err := io.ReadFull(st.Stdin, key); err != nil || key[0] != 3 {
			return api.ExecExit{}, fmt.Errorf("key %q, %w", key, err)
		}
		if err := pty.Setsize(host, &pty.Winsize{Rows: 40, Cols: 120}); err != nil {
			return api.ExecExit{}, err
		}
		// This test's terminal is not the process's own: nobody signals it.
		if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
			return api.ExecExit{}, err
		}
		if size := <-st.Resize; size != (api.Resize{Rows: 40, Cols: 120}) {
			return api.ExecExit{}, fmt.Errorf("size %+v", size)
		}
		return api.ExecExit{Code: 3}, nil
	}
	err = s.run(t.Context(), "exec", "web", "--", "x")
	if g := (*vmcmd.GuestExit)(nil); !errors.As(err, &g) || g.Code != 3 {
		t.Errorf("got %v", err)
	}
	if again, err := s.io.Raw(); err != nil {
		t.Error(err)
	} else {
		again()
	}
}
