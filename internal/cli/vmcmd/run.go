package vmcmd

import (
	"context"
	"errors"
	"os/signal"
	"syscall"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"

	"github.com/spf13/cobra"
)

type runOptions struct {
	spec
	command
	argv []string
	rm   bool
}

func newRun(e Env) *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   "run [flags] [IMAGE] [-- COMMAND...]",
		Short: "Create a VM and run a command or a shell in it",
		Long: `Create a VM, start it, wait until it is ready and run a command in it, or a
shell; the exit code is the command's. The VM stays, running, unless --rm says
otherwise. Ctrl-C before the VM is ready takes back what was begun.

A VM is ready before its own init has started everything: what talks to systemd
waits for that with banger vm wait VM --for booted.`,
		Example: `  banger run
  banger run --network routed --allow-host 5432
  banger run --name web --memory 4GiB
  banger run --rm -- uname -r`,
		Args: imageAndCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.split(cmd, args); err != nil {
				return err
			}
			if err := o.read(cmd); err != nil {
				return err
			}
			ctx := cmd.Context()
			if o.rm { // the VM is not to outlive us, whatever ends us
				var stop func()
				ctx, stop = signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGHUP)
				defer stop()
			}
			c, err := e.Connect(ctx)
			if err != nil {
				return err
			}
			return runRun(ctx, e, o, c)
		},
		ValidArgsFunction: e.imageNames,
	}
	o.spec.add(cmd)
	o.command.add(cmd)
	cmd.Flags().BoolVar(&o.rm, "rm", false, "delete the VM when the command has ended")
	return cmd
}

// split takes [IMAGE] [-- COMMAND...] apart.
func (o *runOptions) split(cmd *cobra.Command, args []string) error {
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		o.argv = args[dash:]
		args = args[:dash]
		if len(o.argv) == 0 {
			return banger.Errorf(banger.Invalid, "no command after the two dashes").WithRemedy("leave them out for a shell")
		}
	}
	if len(args) == 1 {
		return o.image.Set(args[0])
	}
	return nil
}

func runRun(ctx context.Context, e Env, o *runOptions, c interface {
	creator
	execer
	deleter
}) (err error) {
	req, err := o.request(e)
	if err != nil {
		return err
	}
	vm, err := e.create(ctx, c, req)
	if err != nil {
		return err
	}
	fail := func(err error) error { return err }
	if len(o.argv) > 0 {
		fail = ownFailure
	}
	if o.rm {
		defer func() {
			if e := e.remove(ctx, c, vm); e != nil {
				err = errors.Join(err, fail(e))
			}
		}()
	}
	if err := ctx.Err(); err != nil { // Ctrl-C that came as the VM became ready
		return err
	}
	shell := len(o.argv) == 0 && e.wantTTY(o.command)
	switch {
	case shell:
		e.IO.Note("%s is ready; its services may still be starting (banger vm wait %[1]s --for booted)", vm.Name)
	case !o.name.Optional.Set:
		e.IO.Note("%s is ready", vm.Name)
	}
	err = e.session(ctx, c, string(vm.ID), o.argv, o.command)
	if shell && !o.rm {
		e.IO.Note("%s is still there: banger ssh %s; banger rm --force %s", vm.Name, vm.Name, vm.Name)
	}
	return fail(err)
}

// remove deletes the VM of run --rm, however we came to an end.
func (e Env) remove(ctx context.Context, c deleter, vm banger.VM) error {
	silent := e
	silent.Report = func(banger.Event) {} // the user asked for the command, not for this
	_, err := silent.follow(context.WithoutCancel(ctx), leave, func(ctx context.Context) (*client.Op[banger.VM], error) {
		return c.DeleteVM(ctx, api.DeleteRequest{VM: string(vm.ID), Force: true})
	})
	if banger.CodeOf(err) == banger.NotFound { // somebody else did
		return nil
	}
	return err
}

func imageAndCommand(cmd *cobra.Command, args []string) error {
	if dash := cmd.ArgsLenAtDash(); dash > 1 || dash < 0 && len(args) > 1 {
		return banger.Errorf(banger.Invalid, "what is %q?", args[1]).
			WithRemedy("a command comes after two dashes: banger run %s -- COMMAND...", args[0])
	}
	return nil
}
