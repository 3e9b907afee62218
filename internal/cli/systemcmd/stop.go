package systemcmd

import (
	"context"
	"errors"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
	"banger/internal/cli/launch"

	"github.com/spf13/cobra"
)

type vmStopper interface {
	ListVMs(ctx context.Context) ([]banger.VM, error)
	StopVM(ctx context.Context, r api.StopRequest) (*client.Op[banger.VM], error)
	DeleteVM(ctx context.Context, r api.DeleteRequest) (*client.Op[banger.VM], error)
}

type stopOptions struct {
	all bool
}

func newStop(e Env) *cobra.Command {
	o := &stopOptions{}
	cmd := &cobra.Command{
		Use:     "stop",
		Short:   "End the daemon; VMs go on",
		Long:    "End the daemon. VMs go on, and the next daemon takes them over; --all stops them first.",
		Example: "  banger daemon stop\n  banger daemon stop --all",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runStop(cmd.Context(), e, o) },
	}
	cmd.Flags().BoolVar(&o.all, "all", false, "stop the VMs, too")
	return cmd
}

func runStop(ctx context.Context, e Env, o *stopOptions) error {
	if o.all {
		// VMs live without a daemon as well: one is started to stop them.
		c, err := e.Daemon.Connect(ctx)
		if err != nil {
			return err
		}
		if err := stopVMs(ctx, e, c); err != nil {
			return err // the daemon stays, since the VMs do
		}
	}
	err := e.end(ctx)
	if errors.Is(err, launch.ErrNone) {
		e.IO.Note("bangerd does not run")
		return nil
	}
	return err
}

// stopVMs starts all stops before it waits for the first.
func stopVMs(ctx context.Context, e Env, c vmStopper) error {
	vms, err := c.ListVMs(ctx)
	if err != nil {
		return err
	}
	ops := map[string]*client.Op[banger.VM]{}
	var errs []error
	for _, vm := range vms {
		if vm.State == banger.StateStopped || vm.State == banger.StateError {
			continue
		}
		op, err := c.StopVM(ctx, api.StopRequest{VM: string(vm.ID)})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ops[vm.Name] = op
	}
	for name, op := range ops {
		if _, err := op.Wait(ctx, nil); err != nil {
			errs = append(errs, err)
			continue
		}
		e.IO.Note("stopped %s", name)
	}
	return errors.Join(errs...)
}
