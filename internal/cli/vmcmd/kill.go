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

func newKill(e Env) *cobra.Command {
	return e.onVMs(&cobra.Command{
		Use:     "kill VM...",
		Short:   "End VMs at once, as if the power failed",
		Example: "  banger vm kill web\n  banger vm kill --all",
	}, verb{fits: isLive, all: "every VM that runs", interrupt: leave,
		do: func(ctx context.Context, c Client, vm string) (*client.Op[banger.VM], error) {
			return c.KillVM(ctx, api.VMRequest{VM: vm})
		},
	})
}
