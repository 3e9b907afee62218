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

func newReset(e Env) *cobra.Command {
	return e.onVMs(&cobra.Command{
		Use:   "reset VM...",
		Short: "Throw away what VMs have changed on their root disks",
		Long: `Throw away all that VMs which are stopped have changed on their root disks: at the
next start each is as new. Name, address, keys and size of the disk stay, and so does
the work disk with all of /root.`,
		Example: "  banger vm reset web",
	}, verb{fits: isStopped, all: "every VM that is stopped", interrupt: leave,
		do: func(ctx context.Context, c Client, vm string) (*client.Op[banger.VM], error) {
			return c.ResetVM(ctx, api.VMRequest{VM: vm})
		},
	})
}
