package vmcmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/api"
	"banger/internal/rawtext"
)

// wantTTY says whether a command gets a terminal.
func (e Env) wantTTY(c command) bool {
	if c.tty.Set {
		return c.tty.Value
	}
	return e.IO.InTerm && e.IO.OutTerm && !c.noStdin
}

// session runs argv in a VM, joined to our streams, until it has ended: nil,
// a *GuestExit, or banger's own failure. Empty argv is a login shell.
//
// Signals that we get are the command's, not ours; on a terminal Ctrl-C is a
// key that is passed on. A command that ignores Ctrl-C is left to itself at
// the third in a row.
func (e Env) session(ctx context.Context, c execer, vm string, argv []string, cmd command) error {
	req := api.ExecRequest{
		VM: vm, Argv: argv, Env: e.guestEnv(cmd.env), Dir: rawtext.String(cmd.dir), User: rawtext.String(cmd.user),
		TTY: e.wantTTY(cmd), Stdin: !cmd.noStdin,
	}
	if req.TTY {
		req.Term = e.IO.Getenv("TERM")
		req.Rows, req.Cols, _ = e.IO.Size()
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	sig := e.catch(req.TTY, cancel)
	defer sig.stop()
	e.IO.Progress().Close() // nothing is to be drawn into the command's output

	restore := func() {}
	if req.TTY {
		var err error
		if restore, err = e.IO.Raw(); err != nil {
			return fmt.Errorf("prepare terminal: %w", err)
		}
	}
	exit, err := c.ExecVM(ctx, req, api.ExecStreams{
		Stdin: e.IO.In, Stdout: e.IO.Out, Stderr: e.IO.Err,
		Resize: sig.resize, Signals: sig.names,
	})
	restore()
	switch {
	case errors.Is(err, errLeft):
		return err
	case errors.Is(err, syscall.EPIPE):
		// Nobody reads our output any more, as in `… | head`: end as a
		// program here would.
		return &GuestExit{128 + int(syscall.SIGPIPE)}
	case err != nil:
		return err
	}
	return exitOf(exit)
}

// errLeft ends a session whose command did not end when it was asked to.
var errLeft = &banger.Error{
	Code: banger.Canceled, Message: "interrupted; the command did not end",
	Remedy: "it may go on in the VM: banger exec VM -- ps",
}

func exitOf(exit api.ExecExit) error {
	switch {
	case exit.Signal != "":
		n := int(unix.SignalNum("SIG" + exit.Signal))
		if n == 0 {
			return banger.Errorf(banger.Internal, "signal %q ended the command", exit.Signal)
		}
		return &GuestExit{128 + n}
	case exit.Code != 0:
		return &GuestExit{exit.Code}
	}
	return nil
}

// guestEnv is -e as the guest gets it: a variable without a value takes the
// caller's, and is left out if there is none.
func (e Env) guestEnv(vars []string) []string {
	vars = slices.Clone(vars)
	for i, kv := range vars {
		if !strings.Contains(kv, "=") {
			v, ok := e.IO.LookupEnv(kv)
			if !ok {
				vars[i] = ""
				continue
			}
			vars[i] = kv + "=" + v
		}
	}
	return slices.DeleteFunc(vars, func(kv string) bool { return kv == "" })
}
