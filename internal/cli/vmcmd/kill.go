package vmcmd

import (
	"context"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"

	"github.com/spf13/cobra"
)

type killer interface {
	KillVM(ctx context.Context, r api.VMRequest) (*client.Op[banger.VM], error)
}

type killOptions struct {
	vms []string
	all bool
}

func newKill(e Env) *cobra.Command {
	o := &killOptions{}
	cmd := &cobra.Command{
		Use:     "kill VM...",
		Short:   "End VMs at once, as if the power failed",
		Example: "  banger vm kill web\n  banger vm kill --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.vms = args
			if err := checkTargets(o.vms, o.all); err != nil {
				return err
			}
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runKill(cmd.Context(), e, o, c)
		},
		ValidArgsFunction: e.vmNames(isLive),
	}
	cmd.Flags().BoolVar(&o.all, "all", false, "every VM that runs")
	return cmd
}

func runKill(ctx context.Context, e Env, o *killOptions, c interface {
	lister
	killer
}) error {
	vms, err := targets(ctx, c, o.vms, o.all, isLive)
	if err != nil {
		return err
	}
	return e.each(ctx, vms, leave, func(ctx context.Context, vm string) (*client.Op[banger.VM], error) {
		return c.KillVM(ctx, api.VMRequest{VM: vm})
	})
}
