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

func newRestart(e Env) *cobra.Command {
	timeout := &stopTimeout{}
	cmd := e.onVMs(&cobra.Command{
		Use:     "restart VM...",
		Short:   "Stop VMs and start them again",
		Long:    "Stop VMs as stop does, and start them again. Disks, address and name stay.",
		Example: "  banger vm restart web\n  banger vm restart --all --timeout 1m",
	}, verb{fits: isLive, all: "every VM that runs", interrupt: leave, check: timeout.read,
		do: func(ctx context.Context, c Client, vm string) (*client.Op[banger.VM], error) {
			return c.RestartVM(ctx, api.StopRequest{VM: vm, Timeout: timeout.seconds()})
		},
	})
	timeout.add(cmd)
	return cmd
}
