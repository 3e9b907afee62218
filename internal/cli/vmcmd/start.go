package vmcmd

import (
	"context"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"

	"github.com/spf13/cobra"
)

type starter interface {
	StartVM(ctx context.Context, r api.VMRequest) (*client.Op[banger.VM], error)
}

func newStart(e Env) *cobra.Command {
	return e.onVMs(&cobra.Command{
		Use:     "start VM...",
		Short:   "Start VMs and wait until they are ready",
		Example: "  banger vm start web db\n  banger vm start --all",
	}, verb{fits: isStopped, all: "every VM that is stopped", interrupt: undo,
		do: func(ctx context.Context, c Client, vm string) (*client.Op[banger.VM], error) {
			return c.StartVM(ctx, api.VMRequest{VM: vm})
		},
	})
}

func isStopped(vm banger.VM) bool {
	return vm.State == banger.StateStopped || vm.State == banger.StateError
}
func isLive(vm banger.VM) bool { return !isStopped(vm) }
func isAny(banger.VM) bool     { return true }
