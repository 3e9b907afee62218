package vm_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"banger"
	"banger/internal/vm"
)

func TestConsole(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	if _, err := m.AttachConsole(t.Context(), "web"); banger.CodeOf(err) != banger.NotFound {
		t.Errorf("of no VM: %v", err)
	}
	create(t, m)
	c, err := m.AttachConsole(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.AttachConsole(t.Context(), "web"); banger.CodeOf(err) != banger.Busy {
		t.Errorf("a second one: %v", err)
	}
	p := w.only(t)
	go func() { // a guest that answers, and then ends
		b := make([]byte, 5)
		_, _ = io.ReadFull(p.tty, b)
		_, _ = p.tty.Write(append([]byte("heard "), b...))
		p.end(banger.Exit{Cause: banger.ExitGuest})
	}()
	var out bytes.Buffer
	if err := c.Join(t.Context(), strings.NewReader("hello"), &out, never(t)); err != nil || out.String() != "heard hello" {
		t.Errorf("%q, %v", out.String(), err)
	}
	settled(t, m)
	if _, err := m.AttachConsole(t.Context(), "web"); banger.CodeOf(err) != banger.WrongState || banger.AsError(err).Remedy == "" {
		t.Errorf("of a stopped VM: %v", err)
	}
}

// Whoever leaves makes room for the next; one who does not read keeps no guest
// waiting, and is told what he missed.
func TestConsoleNobodyReads(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	c, err := m.AttachConsole(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancelCause(t.Context())
	gone := errors.New("left")
	stuck, reads := make(chan struct{}), make(chan string, 1<<10)
	joined := make(chan error)
	go func() {
		joined <- c.Join(ctx, eternal{ctx}, sink(func(p []byte) {
			<-stuck
			reads <- string(p)
		}), never(t))
	}()
	p := w.only(t)
	const much = 4 << 20
	if n, err := p.tty.Write(make([]byte, much)); n != much || err != nil { // nobody reads, and yet it ends
		t.Fatal(n, err)
	}
	close(stuck)
	for said := ""; !strings.Contains(said, "left out here"); {
		select {
		case said = <-reads:
		default: // the note comes with the next words
			if _, err := p.tty.Write([]byte("more")); err != nil {
				t.Fatal(err)
			}
		}
	}
	leave(gone)
	for done := false; !done; {
		select {
		case err := <-joined:
			if done = true; !errors.Is(err, gone) {
				t.Errorf("joined: %v", err)
			}
		case <-reads:
		}
	}
	next, err := m.AttachConsole(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
	p.end(banger.Exit{Cause: banger.ExitGuest}) // its pretend consoles end, too
}

// Who sits at a console when the VM is started again, by its guest's reboot or by
// the user, stays there; nobody else gets in between. A stop ends it.
func TestConsoleGoesOn(t *testing.T) {
	for how, end := range map[string]func(*vm.Manager, *process) error{
		"reboot": func(_ *vm.Manager, p *process) error {
			p.end(banger.Exit{Cause: banger.ExitGuest, Reboot: true})
			return nil
		},
		"restart": func(m *vm.Manager, _ *process) error { return second(m.Restart(t.Context(), "web", nil, quiet{})) },
	} {
		w := newWorld(t)
		m := w.manager(nil)
		create(t, m)
		c, err := m.AttachConsole(t.Context(), "web")
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		again, joined := make(chan string, 1), make(chan error, 1)
		keys, typing := io.Pipe()
		go func() { joined <- c.Join(t.Context(), keys, &out, func(name string) { again <- name }) }()
		first := w.only(t)
		if _, err := first.tty.Write([]byte("one ")); err != nil {
			t.Fatal(err)
		}
		if err := end(m, first); err != nil {
			t.Fatal(err)
		}
		select {
		case name := <-again:
			if name != "web" {
				t.Errorf("%s: %q goes on", how, name)
			}
		case err := <-joined:
			t.Fatalf("%s: it ended: %v", how, err)
		}
		if _, err := m.AttachConsole(t.Context(), "web"); banger.CodeOf(err) != banger.Busy {
			t.Errorf("%s: a second one: %v", how, err)
		}
		next := w.only(t)
		go func() { // what is typed reaches the new run, which then ends
			b := make([]byte, 3)
			_, _ = io.ReadFull(next.tty, b)
			_, _ = next.tty.Write(b)
			next.end(banger.Exit{Cause: banger.ExitGuest})
		}()
		if _, err := typing.Write([]byte("two")); err != nil {
			t.Fatal(err)
		}
		if err := <-joined; err != nil || out.String() != "one two" {
			t.Errorf("%s: %q, %v", how, out.String(), err)
		}
		typing.Close()
		settled(t, m)
		if _, err := m.AttachConsole(t.Context(), "web"); banger.CodeOf(err) != banger.WrongState {
			t.Errorf("%s: of a stopped VM: %v", how, err)
		}
	}
}

// never fails if the VM is said to have been started again.
func never(t *testing.T) func(string) {
	return func(name string) { t.Errorf("%s was started again", name) }
}

type sink func([]byte)

func (f sink) Write(p []byte) (int, error) { f(p); return len(p), nil }

// eternal is an input that ends with its ctx.
type eternal struct{ ctx context.Context }

func (e eternal) Read([]byte) (int, error) { <-e.ctx.Done(); return 0, io.EOF }
