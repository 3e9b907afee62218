package vmcmd

import (
	"context"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"

	"github.com/spf13/cobra"
)

type starter interface {
	StartVM(ctx context.Context, r api.VMRequest) (*client.Op[banger.VM], error)
}

type startOptions struct {
	vms []string
	all bool
}

func newStart(e Env) *cobra.Command {
	o := &startOptions{}
	cmd := &cobra.Command{
		Use:     "start VM...",
		Short:   "Start VMs and wait until they are ready",
		Example: "  banger vm start web db\n  banger vm start --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.vms = args
			if err := checkTargets(o.vms, o.all); err != nil {
				return err
			}
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runStart(cmd.Context(), e, o, c)
		},
		ValidArgsFunction: e.vmNames(isStopped),
	}
	cmd.Flags().BoolVar(&o.all, "all", false, "every VM that is stopped")
	return cmd
}

func runStart(ctx context.Context, e Env, o *startOptions, c interface {
	lister
	starter
}) error {
	vms, err := targets(ctx, c, o.vms, o.all, isStopped)
	if err != nil {
		return err
	}
	return e.each(ctx, vms, undo, func(ctx context.Context, vm string) (*client.Op[banger.VM], error) {
		return c.StartVM(ctx, api.VMRequest{VM: vm})
	})
}

func isStopped(vm banger.VM) bool {
	return vm.State == banger.StateStopped || vm.State == banger.StateError
}
func isLive(vm banger.VM) bool { return !isStopped(vm) }
func isAny(banger.VM) bool     { return true }
