package firecracker

import (
	"context"
	"fmt"

	"github.com/firecracker-microvm/firecracker-go-sdk/client/models"
	"github.com/firecracker-microvm/firecracker-go-sdk/client/operations"

	"banger/internal/vmm"
)

var _ vmm.Pauser = (*process)(nil)

// Pause implements vmm.Pauser.
func (p *process) Pause(ctx context.Context) error { return p.patch(ctx, models.VMStatePaused) }

// Resume implements vmm.Pauser.
func (p *process) Resume(ctx context.Context) error { return p.patch(ctx, models.VMStateResumed) }

func (p *process) patch(ctx context.Context, state string) error {
	ctx, cancel := context.WithTimeout(ctx, buttonLimit)
	defer cancel()
	ctx, end := whileLives(ctx, p.watch.Gone)
	defer end()
	_, err := operationsOf(ctx, p.h).PatchVM(operations.NewPatchVMParamsWithContext(ctx).WithBody(&models.VM{State: &state}))
	if err := becauseOf(ctx, err); err != nil {
		return fmt.Errorf("have the guest %s: %w", state, err)
	}
	return nil
}
