package vmcmd

import (
	"context"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
)

// awaitReady says in one line that a VM is still booting, and waits until a
// shell can be had in it. Other states are left to what comes next.
func (e Env) awaitReady(ctx context.Context, c interface {
	shower
	waiter
}, name string) error {
	vm, err := c.ShowVM(ctx, api.VMRequest{VM: name})
	if err != nil {
		return err
	}
	booting := vm.State == banger.StateStarting || vm.State == banger.StateRunning && !vm.Ready
	if !booting {
		return nil
	}
	e.IO.Note("%s is still booting; waiting until it is ready", vm.Name)
	silent := e
	silent.Report = func(banger.Event) {} // the one line is said
	_, err = silent.follow(ctx, cease, func(ctx context.Context) (*client.Op[banger.VM], error) {
		return c.WaitVM(ctx, api.WaitRequest{VM: string(vm.ID), For: forReady})
	})
	return err
}
