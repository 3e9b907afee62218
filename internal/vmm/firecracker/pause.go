package firecracker

import (
	"context"
	"fmt"

	"github.com/firecracker-microvm/firecracker-go-sdk/client/models"
	"github.com/firecracker-microvm/firecracker-go-sdk/client/operations"

	"banger/internal/vmm"
)

var _ vmm.Pauser = (*proc)(nil)

// Pause implements vmm.Pauser.
func (p *proc) Pause(ctx context.Context) error { return p.patch(ctx, models.VMStatePaused) }

// Resume implements vmm.Pauser. A guest that runs is left alone: Firecracker would have
// all its devices look at their queues, and dies of those of a card that the guest has
// taken its driver from (seen with 1.12.1).
func (p *proc) Resume(ctx context.Context) error {
	asked, cancel := context.WithTimeout(ctx, buttonLimit)
	defer cancel()
	if state, err := stateOf(asked, p.Handle()); err == nil && state == models.InstanceInfoStateRunning {
		return nil
	}
	return p.patch(ctx, models.VMStateResumed)
}

func (p *proc) patch(ctx context.Context, state string) error {
	ctx, cancel := context.WithTimeout(ctx, buttonLimit)
	defer cancel()
	ctx, end := whileLives(ctx, p.Gone())
	defer end()
	_, err := operationsOf(ctx, p.Handle()).PatchVM(operations.NewPatchVMParamsWithContext(ctx).WithBody(&models.VM{State: &state}))
	if err := becauseOf(ctx, err); err != nil {
		return fmt.Errorf("have the guest %s: %w", state, err)
	}
	return nil
}
