package vmcmd

import (
	"context"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"

	"github.com/spf13/cobra"
)

type restarter interface {
	RestartVM(ctx context.Context, r api.VMRequest) (*client.Op[banger.VM], error)
}

type restartOptions struct {
	vms []string
	all bool
}

func newRestart(e Env) *cobra.Command {
	o := &restartOptions{}
	cmd := &cobra.Command{
		Use:     "restart VM...",
		Short:   "Stop VMs and start them again",
		Example: "  banger vm restart web\n  banger vm restart --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.vms = args
			if err := checkTargets(o.vms, o.all); err != nil {
				return err
			}
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runRestart(cmd.Context(), e, o, c)
		},
		ValidArgsFunction: e.vmNames(isLive),
	}
	cmd.Flags().BoolVar(&o.all, "all", false, "every VM that runs")
	return cmd
}

func runRestart(ctx context.Context, e Env, o *restartOptions, c interface {
	lister
	restarter
}) error {
	vms, err := targets(ctx, c, o.vms, o.all, isLive)
	if err != nil {
		return err
	}
	return e.each(ctx, vms, leave, func(ctx context.Context, vm string) (*client.Op[banger.VM], error) {
		return c.RestartVM(ctx, api.VMRequest{VM: vm})
	})
}
