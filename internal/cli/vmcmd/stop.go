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
	timeout := &stopTimeout{}
	cmd := e.onVMs(&cobra.Command{
		Use:   "stop VM...",
		Short: "Stop VMs in an orderly way",
		Long: `Ask the guest to power off, and kill the VM when it has not done so in time.
Disks, address and name stay.`,
		Example: "  banger vm stop web\n  banger vm stop --all --timeout 1m",
	}, verb{fits: isLive, all: "every VM that runs", interrupt: leave, check: timeout.read,
		do: func(ctx context.Context, c Client, vm string) (*client.Op[banger.VM], error) {
			return c.StopVM(ctx, api.StopRequest{VM: vm, Timeout: timeout.seconds()})
		},
	})
	timeout.add(cmd)
	return cmd
}
