package vmcmd

import (
	"context"
	"errors"
	"strings"

	"banger"
	"banger/internal/api"

	"github.com/spf13/cobra"
)

type execer interface {
	// ExecVM runs a command to its end. An error means that its fate is
	// unknown, or that it was never begun.
	ExecVM(ctx context.Context, r api.ExecRequest, s api.ExecStreams) (api.ExecExit, error)
}

type execOptions struct {
	command
	vm   string
	argv []string
}

// command is how a command is run in a VM, as exec and run have it.
type command struct {
	env     []string // K=V, or K for the caller's value
	dir     string
	user    string
	tty     api.Optional[bool]
	noStdin bool
}

func (c *command) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&c.env, "env", "e", nil, "set a variable, `K=V`; K alone takes the caller's value")
	f.StringVarP(&c.dir, "workdir", "w", "", "`DIR` to run it in; without it the home directory")
	f.StringVarP(&c.user, "user", "u", "", "`USER` to run it as; without it root")
	f.BoolP("tty", "t", false, "give it a terminal; the default when stdin and stdout are one")
	f.BoolVarP(&c.noStdin, "no-stdin", "n", false, "leave stdin alone")
	f.BoolP("interactive", "i", false, "accepted from habit: stdin is passed on anyway")
}

// read completes c once the command line is parsed.
func (c *command) read(cmd *cobra.Command) error {
	if f := cmd.Flags(); f.Changed("tty") {
		tty, err := f.GetBool("tty")
		if err != nil {
			return err
		}
		c.tty = api.Some(tty)
	}
	if c.dir != "" && !strings.HasPrefix(c.dir, "/") {
		return banger.Errorf(banger.Invalid, "directory %q is not absolute", c.dir)
	}
	for _, kv := range c.env {
		if k, _, _ := strings.Cut(kv, "="); k == "" {
			return banger.Errorf(banger.Invalid, "variable %q has no name", kv).WithRemedy("say -e NAME=VALUE, or -e NAME")
		}
	}
	return nil
}

func newExec(e Env) *cobra.Command {
	o := &execOptions{}
	cmd := &cobra.Command{
		Use:   "exec [flags] VM -- COMMAND...",
		Short: "Run a command in a VM",
		Long: `Run a command in a VM. Its words reach the guest as they are, no shell splits
them; stdin, stdout, stderr and the exit code pass through (128+N when signal N
ended it). banger's own failure is 125.`,
		Example: `  banger vm exec web -- uname -r
  banger vm exec web -e LANG -w /srv -- sh -c 'echo $LANG; ls'
  tar c . | banger vm exec web -- tar x -C /srv`,
		Args: vmAndCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.vm, o.argv = args[0], args[1:]
			if len(o.argv) == 0 {
				return banger.Errorf(banger.Invalid, "no command").
					WithRemedy("banger vm exec %s -- COMMAND...; for a shell: banger vm ssh %s", o.vm, o.vm)
			}
			if err := o.read(cmd); err != nil {
				return err
			}
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runExec(cmd.Context(), e, o, c)
		},
		ValidArgsFunction: e.vmNames(isLive),
	}
	o.add(cmd)
	return cmd
}

func runExec(ctx context.Context, e Env, o *execOptions, c interface {
	execer
	shower
	waiter
}) error {
	if e.wantTTY(o.command) {
		if err := e.awaitReady(ctx, c, o.vm); err != nil {
			return err
		}
	}
	err := e.session(ctx, c, o.vm, o.argv, o.command)
	switch banger.CodeOf(err) {
	case banger.NotFound, banger.WrongState, banger.Invalid, banger.HostUnready, banger.Busy:
		return err // refused: the command was not begun
	}
	return ownFailure(err)
}

// A GuestExit is how a guest's command ended, when not with 0: its code, or
// 128+N for signal N. There is nothing to be printed about it.
type GuestExit struct{ Code int }

func (g *GuestExit) Error() string { return "the guest's command failed" }

// An OwnFailure is banger's own failure once a guest's command was given and
// its VM is there.
type OwnFailure struct{ Err error }

func (f *OwnFailure) Error() string { return f.Err.Error() }
func (f *OwnFailure) Unwrap() error { return f.Err }

func ownFailure(err error) error {
	var g *GuestExit
	if err == nil || errors.As(err, &g) {
		return err
	}
	return &OwnFailure{err}
}

// vmAndCommand checks the arguments of VM [-- COMMAND...]: the dashes keep the
// command's own flags from being taken for banger's.
func vmAndCommand(cmd *cobra.Command, args []string) error {
	switch dash := cmd.ArgsLenAtDash(); {
	case len(args) == 0 || dash == 0:
		return errors.New("which VM?")
	case dash < 0 && len(args) > 1 || dash > 1:
		return banger.Errorf(banger.Invalid, "what is %q?", args[1]).
			WithRemedy("a command comes after two dashes: %s %s -- %s", cmd.CommandPath(), args[0], strings.Join(args[1:], " "))
	}
	return nil
}
