package vmcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"banger/internal/api"

	"github.com/spf13/cobra"
)

type consoler interface {
	// ConsoleVM joins streams to a VM's serial console until the VM or ctx ends.
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
terminal as it is. One client can be attached at a time.`,
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
	in := e.IO.In
	if e.IO.InTerm {
		if o.escape.set {
			in = &escapable{in: e.IO.In, key: o.escape.code, left: func() { cancel(errDetached) }}
			e.IO.Note("console of %s; %s leaves it", o.vm, o.escape.String())
		}
	}
	e.IO.Progress().Close() // nothing is to be drawn into the guest's output
	restore, err := e.IO.Raw()
	if err != nil {
		return fmt.Errorf("prepare terminal: %w", err)
	}
	err = c.ConsoleVM(ctx, api.VMRequest{VM: o.vm}, api.ExecStreams{Stdin: in, Stdout: e.IO.Out})
	restore()
	switch {
	case err == nil:
		e.IO.Note("%s has ended", o.vm)
	case errors.Is(err, errDetached), errors.Is(context.Cause(ctx), context.Canceled):
		e.IO.Note("left the console of %s", o.vm)
		return nil
	}
	return err
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
