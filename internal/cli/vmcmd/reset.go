package vmcmd

import (
	"context"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"

	"github.com/spf13/cobra"
)

type resetter interface {
	ResetVM(ctx context.Context, r api.VMRequest) (*client.Op[banger.VM], error)
}

type resetOptions struct {
	vms []string
	all bool
}

func newReset(e Env) *cobra.Command {
	o := &resetOptions{}
	cmd := &cobra.Command{
		Use:   "reset VM...",
		Short: "Throw away what VMs have changed on their disks",
		Long: `Throw away all that VMs which are stopped have changed on their root disks: at the
next start each is as new. Name, address, keys and size of the disk stay.`,
		Example: "  banger vm reset web",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.vms = args
			if err := checkTargets(o.vms, o.all); err != nil {
				return err
			}
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runReset(cmd.Context(), e, o, c)
		},
		ValidArgsFunction: e.vmNames(isStopped),
	}
	cmd.Flags().BoolVar(&o.all, "all", false, "every VM that is stopped")
	return cmd
}

func runReset(ctx context.Context, e Env, o *resetOptions, c interface {
	lister
	resetter
}) error {
	vms, err := targets(ctx, c, o.vms, o.all, isStopped)
	if err != nil {
		return err
	}
	return e.each(ctx, vms, leave, func(ctx context.Context, vm string) (*client.Op[banger.VM], error) {
		return c.ResetVM(ctx, api.VMRequest{VM: vm})
	})
}
