package vmcmd

import (
	"context"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"

	"github.com/spf13/cobra"
)

type restarter interface {
	RestartVM(ctx context.Context, r api.StopRequest) (*client.Op[banger.VM], error)
}

type restartOptions struct {
	vms     []string
	all     bool
	timeout stopTimeout
}

func newRestart(e Env) *cobra.Command {
	o := &restartOptions{}
	cmd := &cobra.Command{
		Use:     "restart VM...",
		Short:   "Stop VMs and start them again",
		Long:    "Stop VMs as stop does, and start them again. Disks, address and name stay.",
		Example: "  banger vm restart web\n  banger vm restart --all --timeout 1m",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.vms = args
			if err := checkTargets(o.vms, o.all); err != nil {
				return err
			}
			if err := o.timeout.read(cmd); err != nil {
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
	o.timeout.add(cmd)
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
		return c.RestartVM(ctx, api.StopRequest{VM: vm, Timeout: o.timeout.seconds()})
	})
}
