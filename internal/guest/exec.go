package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/ssh"

	"banger/internal/guestapi"
)

// Streams are the caller's ends of a command's streams.
type Streams struct {
	Stdin   io.Reader // nil: the command reads end of file
	Stdout  io.Writer // nil: thrown away
	Stderr  io.Writer // nil: thrown away; unused with a TTY
	TTY     *PTY      // nil: no terminal
	Resize  <-chan Size
	Signals <-chan string // names without SIG, as "INT"
}

// A PTY is the terminal that a command is given.
type PTY struct {
	Term       string
	Rows, Cols int
}

// A Size is a terminal's, in characters.
type Size struct{ Rows, Cols int }

// An Exit says how a command ended: by itself with Code, or by Signal (a name
// without SIG).
type Exit struct {
	Code   int
	Signal string
}

// Exec runs a command and returns how it ended, after all its output was
// written. An empty Argv is the user's login shell. An error means that it did
// not run, or that its fate is unknown (ErrLost); an output that cannot be
// written, too.
//
// When ctx ends, the command is hung up on and Exec returns without waiting
// for it. Nothing is written after Exec has returned, so an output that blocks
// must be unblocked by its owner when ctx ends. A Read of Stdin that is under
// way is not waited for: its owner ends it.
//
// An output that blocks holds up this command alone: the guest may send no more
// than SSH's window, 2 MiB, which is also what is kept in memory.
func (c *Conn) Exec(ctx context.Context, cmd guestapi.Exec, s Streams) (Exit, error) {
	exit, err := c.session(ctx, func(ch ssh.Channel) error { return begin(ch, cmd, s.TTY) }, s)
	if err != nil {
		return Exit{}, fmt.Errorf("run %s in guest: %w", describe(cmd), err)
	}
	return exit, nil
}

// Copy moves files: the stream of internal/filetree is s.Stdin, or with cmd.Out
// s.Stdout, and Exit's code one of guestapi's. All that Exec says holds for it.
func (c *Conn) Copy(ctx context.Context, cmd guestapi.Copy, s Streams) (Exit, error) {
	exit, err := c.session(ctx, func(ch ssh.Channel) error { return askJSON(ch, guestapi.CopyRequest, cmd) }, s)
	if err != nil {
		return Exit{}, fmt.Errorf("copy: %w", err)
	}
	return exit, nil
}

// session opens a channel, lets begin say what it is for, and stays with it.
func (c *Conn) session(ctx context.Context, begin func(ssh.Channel) error, s Streams) (Exit, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	e := &execution{conn: c, streams: s, stdout: gate{w: s.Stdout}, stderr: gate{w: s.Stderr}}
	defer e.stdout.close()
	defer e.stderr.close()
	ended := make(chan error, 1)
	go func() { ended <- e.run(ctx, begin, cancel) }()
	select {
	case err := <-ended:
		if err != nil && ctx.Err() != nil { // an output failed, or the caller left: the first cause
			err = context.Cause(ctx)
		}
		if err != nil {
			return Exit{}, err
		}
		return e.exit, nil
	case <-ctx.Done():
		return Exit{}, context.Cause(ctx)
	}
}

func describe(cmd guestapi.Exec) string {
	if len(cmd.Argv) == 0 {
		return "a shell"
	}
	return fmt.Sprintf("%q", cmd.Argv[0])
}

// begin sends what starts the command on ch.
func begin(ch ssh.Channel, cmd guestapi.Exec, tty *PTY) error {
	if tty != nil {
		p := ssh.Marshal(struct {
			Term                      string
			Cols, Rows, Width, Height uint32
			Modes                     string
		}{tty.Term, uint32(tty.Cols), uint32(tty.Rows), 0, 0, "\x00"})
		if err := ask(ch, "pty-req", p); err != nil {
			return err
		}
	}
	if len(cmd.Argv) == 0 && cmd.Dir == "" && cmd.User == "" {
		for _, kv := range cmd.Env {
			k, v, _ := strings.Cut(kv, "=")
			if err := ask(ch, "env", ssh.Marshal(struct{ Name, Value string }{k, v})); err != nil {
				return fmt.Errorf("set variable %q: %w", k, err)
			}
		}
		return ask(ch, "shell", nil)
	}
	if len(cmd.Argv) == 0 { // "shell" can say neither where nor as whom
		cmd.Argv = []string{"/bin/sh", "-c", `exec "${SHELL:-/bin/sh}" -l`}
	}
	return askJSON(ch, guestapi.ExecRequest, cmd)
}

func askJSON(ch ssh.Channel, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return ask(ch, name, ssh.Marshal(struct{ JSON string }{string(b)}))
}

func ask(ch ssh.Channel, name string, payload []byte) error {
	ok, err := ch.SendRequest(name, true, payload)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrLost, foreign(err))
	case !ok:
		return fmt.Errorf("%w: %s", ErrRefused, name)
	}
	return nil
}
