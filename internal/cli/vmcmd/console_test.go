package vmcmd_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"banger"
	"banger/internal/api"
)

// What comes by a pipe is passed on whole: only a terminal has a key that leaves.
func TestConsole(t *testing.T) {
	s := newSession(t, nil)
	s.exec = func(_ context.Context, r api.ExecRequest, st api.ExecStreams) (api.ExecExit, error) {
		b, err := io.ReadAll(st.Stdin)
		if err != nil || r.VM != "web" {
			t.Errorf("VM %q, %v", r.VM, err)
		}
		_, err = st.Stdout.Write(append([]byte("heard "), b...))
		return api.ExecExit{}, err
	}
	s.in.WriteString("a\x1db\x03")
	if err := s.run(t.Context(), "vm", "console", "web"); err != nil {
		t.Fatal(err)
	}
	if got := s.out.String(); got != "heard a\x1db\x03" || s.err.String() != "web has ended\n" {
		t.Errorf("%q, %q", got, s.err)
	}
}

// The key leaves: what was typed before it arrives, what comes after does not.
func TestConsoleEscape(t *testing.T) {
	for args, c := range map[string]struct{ typed, want, said string }{
		"":            {"ls\r\x1dmore", "ls\r", "Ctrl-]"},
		"--escape=^a": {"\x1d\x01more", "\x1d", "Ctrl-A"},
		"--escape=^_": {"\x1f", "", "Ctrl-_"},
	} {
		s := newSession(t, nil)
		heard := make(chan string, 1)
		s.exec = func(ctx context.Context, _ api.ExecRequest, st api.ExecStreams) (api.ExecExit, error) {
			b, _ := io.ReadAll(st.Stdin) // up to the hanging up
			heard <- string(b)
			<-ctx.Done()
			return api.ExecExit{}, nil
		}
		s.io.In, s.io.InTerm = &typist{text: c.typed}, true
		if err := s.run(t.Context(), strings.Fields("vm console web "+args)...); err != nil {
			t.Errorf("%s: %v", args, err)
		}
		want := "console of web; " + c.said + " leaves it\nleft the console of web\n"
		if got := <-heard; got != c.want || s.err.String() != want {
			t.Errorf("%s: the guest heard %q, the user %q", args, got, s.err)
		}
	}
	for _, args := range []string{"vm console", "vm console a b", "vm console web --escape x", "vm console web --escape ^", "vm console web --escape ^1", "vm console web --escape ^~"} {
		s := newSession(t, nil)
		if err := s.run(t.Context(), strings.Fields(args)...); err == nil || s.requests() != "" {
			t.Errorf("%s: %v, sent %q", args, err, s.requests())
		}
	}
	s := newSession(t, map[string]any{api.VMConsole: banger.Errorf(banger.Busy, "somebody is attached")})
	if err := s.run(t.Context(), "vm", "console", "web"); banger.CodeOf(err) != banger.Busy {
		t.Errorf("a refusal: %v", err)
	}
}

// The next daemon has the same console: the client goes on with it, and what is
// typed from then on is for it. It does not take a refusal by one that is ending,
// or has not yet noticed that its client left, for an answer.
func TestConsoleUnderTheNextDaemon(t *testing.T) {
	s := newSession(t, map[string]any{api.VMConsole: banger.Errorf(banger.Busy, "somebody is attached")})
	keys, typing := io.Pipe()
	s.io.In = keys
	heard := func(st api.ExecStreams) string {
		b := make([]byte, 3)
		_, _ = io.ReadFull(st.Stdin, b)
		return string(b)
	}
	served := 0
	var console func(context.Context, api.ExecRequest, api.ExecStreams) (api.ExecExit, error)
	console = func(_ context.Context, _ api.ExecRequest, st api.ExecStreams) (api.ExecExit, error) {
		if served++; served == 1 {
			if got := heard(st); got != "one" {
				t.Errorf("the first daemon heard %q", got)
			}
			s.mu.Lock()
			s.exec = nil // the next answer is a refusal
			s.mu.Unlock()
			go func() {
				for strings.Count(s.requests(), api.VMConsole) < 2 {
				}
				s.mu.Lock()
				s.exec = console
				s.mu.Unlock()
			}()
			return api.ExecExit{}, banger.Errorf(banger.Lost, "bangerd was told to end")
		}
		_, _ = st.Stderr.Write([]byte("web was started again\n"))
		go typing.Write([]byte("two"))
		if got := heard(st); got != "two" {
			t.Errorf("the next daemon heard %q", got)
		}
		typing.Close()
		return api.ExecExit{}, nil
	}
	s.exec = console
	go typing.Write([]byte("one"))
	if err := s.run(t.Context(), "vm", "console", "web"); err != nil {
		t.Error(err)
	}
	want := "bangerd has ended; waiting for the next one, Ctrl-C leaves\ngoing on with the console of web\nweb was started again\nweb has ended\n"
	if got := s.err.String(); got != want {
		t.Errorf("the user read %q, want %q", got, want)
	}
}

// Ctrl-C leaves where there is no daemon to go on with; a VM that ended meanwhile
// is told.
func TestConsoleWithoutADaemon(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	s := newSession(t, map[string]any{api.VMConsole: banger.Errorf(banger.WrongState, "web is not running")})
	s.exec = func(context.Context, api.ExecRequest, api.ExecStreams) (api.ExecExit, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.exec = nil
		return api.ExecExit{}, banger.Errorf(banger.Lost, "bangerd was told to end")
	}
	if err := s.run(ctx, "vm", "console", "web"); banger.CodeOf(err) != banger.WrongState {
		t.Errorf("stopped meanwhile: %v", err)
	}
	s.answer(api.VMConsole, banger.Errorf(banger.Lost, "bangerd was told to end"))
	go func() {
		for strings.Count(s.requests(), api.VMConsole) < 3 {
		}
		interrupt()
	}()
	s.err.Reset()
	if err := s.run(ctx, "vm", "console", "web"); err != nil || !strings.HasSuffix(s.err.String(), "left the console of web\n") {
		t.Errorf("interrupted: %v, %q", err, s.err)
	}
}

// A typist types a text at once and nothing after it.
type typist struct{ text string }

func (t *typist) Read(p []byte) (int, error) {
	n := copy(p, t.text)
	if t.text = t.text[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (t *typist) SetReadDeadline(time.Time) error { return nil }
