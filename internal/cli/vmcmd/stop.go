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
	timeout stopTimeout
}

// stopTimeout is --timeout of what stops a VM: the daemon's unless it was given.
type stopTimeout struct {
	set   bool
	value time.Duration
}

func (p *stopTimeout) add(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&p.value, "timeout", 30*time.Second, "how long the guest may take; 0: kill it at once")
}

func (p *stopTimeout) read(cmd *cobra.Command) error {
	p.set = cmd.Flags().Changed("timeout")
	if p.set && p.value < 0 {
		return banger.Errorf(banger.Invalid, "--timeout is negative").WithRemedy("give a duration such as 1m; 0 kills at once")
	}
	return nil
}

func (p *stopTimeout) seconds() api.Optional[float64] {
	if !p.set {
		return api.Optional[float64]{}
	}
	return api.Some(p.value.Seconds())
}

func newStop(e Env) *cobra.Command {
	o := &stopOptions{}
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
			if err := o.timeout.read(cmd); err != nil {
				return err
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
	o.timeout.add(cmd)
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
		return c.StopVM(ctx, api.StopRequest{VM: vm, Timeout: o.timeout.seconds()})
	})
}
