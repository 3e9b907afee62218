package vmcmd

import (
	"context"
	"time"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"

	"github.com/spf13/cobra"
)

type stopper interface {
	StopVM(ctx context.Context, r api.StopRequest) (*client.Op[banger.VM], error)
}

type stopOptions struct {
	vms     []string
	all     bool
	timeout api.Optional[time.Duration]
}

func newStop(e Env) *cobra.Command {
	o := &stopOptions{}
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "stop VM...",
		Short: "Stop VMs in an orderly way",
		Long: `Ask the guest to power off, and kill the VM when it has not done so in time.
Disks, address and name stay.`,
		Example: "  banger vm stop web\n  banger vm stop --all --timeout 1m",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.vms = args
			if err := checkTargets(o.vms, o.all); err != nil {
				return err
			}
			if cmd.Flags().Changed("timeout") {
				if timeout < 0 {
					return banger.Errorf(banger.Invalid, "--timeout is negative")
				}
				o.timeout = api.Some(timeout)
			}
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runStop(cmd.Context(), e, o, c)
		},
		ValidArgsFunction: e.vmNames(isLive),
	}
	cmd.Flags().BoolVar(&o.all, "all", false, "every VM that runs")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long the guest may take; 0: kill it at once")
	return cmd
}

func runStop(ctx context.Context, e Env, o *stopOptions, c interface {
	lister
	stopper
}) error {
	vms, err := targets(ctx, c, o.vms, o.all, isLive)
	if err != nil {
		return err
	}
	return e.each(ctx, vms, leave, func(ctx context.Context, vm string) (*client.Op[banger.VM], error) {
		r := api.StopRequest{VM: vm}
		if o.timeout.Set {
			r.Timeout = api.Some(o.timeout.Value.Seconds())
		}
		return c.StopVM(ctx, r)
	})
}
