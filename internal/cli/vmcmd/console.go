package vmcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

type consoler interface {
	// ConsoleVM joins streams to a VM's serial console until the VM is stopped, ctx
	// ends, or the daemon does (banger.Lost).
	ConsoleVM(ctx context.Context, r api.VMRequest, s api.ExecStreams) error
}

type consoleOptions struct {
	vm     string
	escape key
}

func newConsole(e Env) *cobra.Command {
	o := &consoleOptions{escape: key{code: 0x1d, set: true}}
	cmd := &cobra.Command{
		Use:   "console VM",
		Short: "Attach to a VM's serial console",
		Long: `Attach to a VM's serial console, as a screen and keyboard would be: also while it
boots, and where its network is broken. In the image that banger builds, Return
gets a root shell. Ctrl-] leaves; the VM goes on. What the guest writes reaches the
terminal as it is. One client can be attached at a time. It stays attached when the
VM is started again, by a reboot of its guest or by banger vm restart, and under
the next daemon when one takes the place of another; it ends when the VM stops.`,
		Example: "  banger vm console web\n  banger vm console web --escape ^A",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.vm = args[0]
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runConsole(cmd.Context(), e, o, c)
		},
		ValidArgsFunction: e.vmNames(isLive),
	}
	cmd.Flags().Var(&o.escape, "escape", "key that leaves: ^] or another with Ctrl, or none")
	return cmd
}

func runConsole(ctx context.Context, e Env, o *consoleOptions, c consoler) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	keys, stop := relay(e.IO.In)
	defer stop()
	in := io.Reader(keys)
	if e.IO.InTerm && o.escape.set {
		in = &escapable{in: keys, key: o.escape.code, left: func() { cancel(errDetached) }}
		e.IO.Note("console of %s; %s leaves it", o.vm, o.escape.String())
	}
	e.IO.Progress().Close() // nothing is to be drawn into the guest's output
	for refused := 0; ; {
		err := e.attach(ctx, c, o.vm, in)
		switch {
		case err == nil:
			e.IO.Note("%s has ended", o.vm)
			return nil
		case errors.Is(err, errDetached), errors.Is(context.Cause(ctx), context.Canceled):
			e.IO.Note("left the console of %s", o.vm)
			return nil
		case banger.CodeOf(err) == banger.Lost, errors.Is(err, client.ErrNoDaemon):
			e.IO.Note("bangerd has ended; waiting for the next one, Ctrl-C leaves")
			refused = maxRefused
		case banger.CodeOf(err) == banger.Busy && refused > 0: // by one that is ending, or does not yet know that we left
			refused--
		default:
			return err
		}
		next, err := client.Next(ctx, e.Find)
		if err != nil { // Ctrl-C
			e.IO.Note("left the console of %s", o.vm)
			return nil
		}
		if c = next; refused == maxRefused {
			e.IO.Note("going on with the console of %s", o.vm)
		}
	}
}

// maxRefused is how often a daemon may refuse one who comes back.
const maxRefused = 10

// attach joins the terminal to the console, as long as one daemon does it.
func (e Env) attach(ctx context.Context, c consoler, vm string, in io.Reader) error {
	restore, err := e.IO.Raw()
	if err != nil {
		return fmt.Errorf("prepare terminal: %w", err)
	}
	defer restore()
	return c.ConsoleVM(ctx, api.VMRequest{VM: vm}, api.ExecStreams{Stdin: in, Stdout: e.IO.Out, Stderr: aside{e.IO}})
}

// aside shows what the daemon says beside the guest's words, on a line of its own.
type aside struct{ io *streams.Streams }

func (a aside) Write(p []byte) (int, error) {
	text := streams.Escape(strings.TrimSuffix(string(p), "\n"))
	switch {
	case a.io.Quiet:
	case a.io.InTerm: // raw: a newline alone is half of one
		fmt.Fprintf(a.io.Err, "\r\n%s\r\n", text)
	default:
		fmt.Fprintln(a.io.Err, text)
	}
	return len(p), nil
}

// relay passes in on to any number of readers, one after the other: a Read of a
// terminal cannot always be ended, and would take the first key from the next.
func relay(in io.Reader) (keys net.Conn, stop func()) {
	keys, to := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(to, in) // its failure is its end: a terminal that is gone
		to.Close()
	}()
	return keys, func() {
		keys.Close()
		if d, ok := in.(interface{ SetReadDeadline(time.Time) error }); ok && d.SetReadDeadline(time.Unix(1, 0)) == nil {
			<-ended
			_ = d.SetReadDeadline(time.Time{})
		}
	}
}

// errDetached ends a session that the user left.
var errDetached = errors.New("detached")

// An escapable passes input on up to a key: then it ends, and says so.
type escapable struct {
	in   io.Reader
	key  byte
	left func()
	end  bool
}

func (r *escapable) Read(p []byte) (int, error) {
	if r.end {
		r.left() // what was typed before it has been sent
		return 0, io.EOF
	}
	n, err := r.in.Read(p)
	if i := bytes.IndexByte(p[:n], r.key); i >= 0 {
		r.end = true
		if n, err = i, nil; n == 0 {
			return r.Read(p)
		}
	}
	return n, err
}

// SetReadDeadline lets a Read that is under way be ended.
func (r *escapable) SetReadDeadline(t time.Time) error {
	if d, ok := r.in.(interface{ SetReadDeadline(time.Time) error }); ok {
		return d.SetReadDeadline(t)
	}
	return os.ErrNoDeadline
}

// key is the value of --escape: a key pressed with Ctrl, or none.
type key struct {
	code byte
	set  bool
}

func (k *key) Type() string { return "KEY" }

func (k *key) String() string {
	if k == nil || !k.set {
		return "none"
	}
	return "Ctrl-" + string(rune(k.code|0x40))
}

// Set takes ^X, in any case, and none.
func (k *key) Set(s string) error {
	switch {
	case s == "none":
		*k = key{}
		return nil
	case len(s) == 2 && s[0] == '^':
		c := s[1]
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c >= '@' && c <= '_' {
			*k = key{code: c & 0x1f, set: true}
			return nil
		}
	}
	return errors.New("want ^ and a letter or one of @[\\]^_, or none")
}
