package vmcmd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"banger"
	"banger/internal/api"
	"banger/internal/cli/streams"
	"banger/internal/cli/vmcmd"

	"github.com/creack/pty"
)

func TestRun(t *testing.T) {
	const create = `vm.create {}`
	const exec = `vm.exec {"vm":"0a1b2c3d","argv":["x"],"stdin":true}`
	const remove = `vm.delete {"vm":"0a1b2c3d","force":true}`
	deleted := operation{result: web}
	for _, c := range []struct {
		name, args string
		delete     any
		exit       api.ExecExit
		lost       bool // the connection to the guest
		sent       string
		guest      int
		own        bool
	}{
		{name: "stays", args: "run -- x", sent: create + "\n" + exec},
		{name: "its code", args: "run -- x", exit: api.ExecExit{Code: 9}, sent: create + "\n" + exec, guest: 9},
		{name: "goes", args: "run --rm -- x", delete: deleted, sent: create + "\n" + exec + "\n" + remove},
		{name: "goes after a failure", args: "run --rm -- x", delete: deleted, exit: api.ExecExit{Code: 9}, sent: create + "\n" + exec + "\n" + remove, guest: 9},
		{name: "goes when lost", args: "run --rm -- x", delete: deleted, lost: true, sent: create + "\n" + exec + "\n" + remove, own: true},
		{name: "is gone already", args: "run --rm -- x", delete: banger.Errorf(banger.NotFound, "no such VM"), sent: create + "\n" + exec + "\n" + remove},
		{name: "does not go", args: "run --rm -- x", delete: banger.Errorf(banger.Busy, "busy"), exit: api.ExecExit{Code: 9}, sent: create + "\n" + exec + "\n" + remove, own: true},
	} {
		s := newSession(t, map[string]any{api.VMCreate: operation{result: web}, api.VMDelete: c.delete})
		s.exec = func(context.Context, api.ExecRequest, api.ExecStreams) (api.ExecExit, error) {
			if c.lost {
				return api.ExecExit{}, errors.New("lost")
			}
			return c.exit, nil
		}
		err := s.run(t.Context(), strings.Fields(c.args)...)
		if got := s.requests(); got != c.sent {
			t.Errorf("%s: sent\n%s", c.name, got)
		}
		var g *vmcmd.GuestExit
		var own *vmcmd.OwnFailure
		if errors.As(err, &own) != c.own {
			t.Errorf("%s: %v", c.name, err)
		}
		if !c.own && (c.guest != 0) != errors.As(err, &g) || g != nil && c.guest != 0 && g.Code != c.guest {
			t.Errorf("%s: %v", c.name, err)
		}
		if want := "web is ready\n"; s.err.String() != want {
			t.Errorf("%s: said %q", c.name, s.err)
		}
	}
}

// Before the VM is there a failure has its own code.
func TestRunWithoutVM(t *testing.T) {
	s := newSession(t, map[string]any{api.VMCreate: operation{err: banger.Errorf(banger.NotFound, "no image x")}})
	err := s.run(t.Context(), "run", "x", "--rm", "--", "true")
	if own := (*vmcmd.OwnFailure)(nil); errors.As(err, &own) || banger.CodeOf(err) != banger.NotFound {
		t.Errorf("got %v", err)
	}
	if got, want := s.requests(), `vm.create {"image":"x"}`; got != want {
		t.Errorf("sent %s", got)
	}
}

// Ctrl-C in the moment in which the VM becomes ready, or during the command:
// with --rm nothing stays.
func TestRunInterruptedDuringTheCommand(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	s := newSession(t, map[string]any{api.VMCreate: operation{result: web}, api.VMDelete: operation{result: web}})
	s.exec = func(context.Context, api.ExecRequest, api.ExecStreams) (api.ExecExit, error) {
		interrupt()
		return api.ExecExit{Signal: "INT"}, nil
	}
	err := s.run(ctx, "run", "--rm", "--", "sleep", "9")
	if g := (*vmcmd.GuestExit)(nil); !errors.As(err, &g) || g.Code != 130 {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(s.requests(), api.VMDelete) {
		t.Errorf("sent %s", s.requests())
	}
}

// Without a command it is a shell on the user's terminal, and then it says what
// becomes of the VM.
func TestRunShell(t *testing.T) {
	host, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	s := newSession(t, map[string]any{api.VMCreate: operation{result: web}})
	s.io = streams.FromFiles(tty, tty, tty)
	s.exec = func(_ context.Context, r api.ExecRequest, st api.ExecStreams) (api.ExecExit, error) {
		if !r.TTY || len(r.Argv) > 0 {
			return api.ExecExit{}, fmt.Errorf("asked for %+v", r)
		}
		fmt.Fprint(st.Stdout, "# ")
		return api.ExecExit{Code: 5}, nil
	}
	err = s.run(t.Context(), "run")
	if g := (*vmcmd.GuestExit)(nil); !errors.As(err, &g) || g.Code != 5 {
		t.Errorf("got %v", err)
	}
	tty.Close()
	screen, _ := io.ReadAll(host) // ends with EIO, as terminals do
	want := "web is ready; its services may still be starting (banger vm wait web --for booted)\r\n# web is still there: banger ssh web; banger rm --force web\r\n"
	if string(screen) != want {
		t.Errorf("on the screen: %q, want %q", screen, want)
	}
}
