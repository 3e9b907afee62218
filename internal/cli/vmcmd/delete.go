package vmcmd

import (
	"context"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"

	"github.com/spf13/cobra"
)

type deleter interface {
	DeleteVM(ctx context.Context, r api.DeleteRequest) (*client.Op[banger.VM], error)
}

func newDelete(e Env) *cobra.Command {
	var force bool
	cmd := e.onVMs(&cobra.Command{
		Use:     "delete VM...",
		Aliases: []string{"rm"},
		Short:   "Delete VMs with their disks",
		Long:    "Delete VMs with their disks. What a VM had is lost; one that runs is deleted with --force only.",
		Example: "  banger vm delete web\n  banger vm delete --force --all",
	}, verb{fits: isAny, all: "every VM", interrupt: leave,
		do: func(ctx context.Context, c Client, vm string) (*client.Op[banger.VM], error) {
			return c.DeleteVM(ctx, api.DeleteRequest{VM: vm, Force: force})
		},
	})
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also those that run")
	return cmd
}
