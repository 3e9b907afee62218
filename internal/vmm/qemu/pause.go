package qemu

import (
	"context"

	"banger/internal/vmm"
)

var _ vmm.Staller = (*proc)(nil)

// Pause implements vmm.Pauser.
func (p *proc) Pause(ctx context.Context) error { return p.say(ctx, "stop") }

// Resume implements vmm.Pauser.
func (p *proc) Resume(ctx context.Context) error { return p.say(ctx, "cont") }

// Stalled implements vmm.Staller. QEMU stalls by its -drive's default, which is
// werror=enospc.
func (p *proc) Stalled() bool {
	mon := p.mon.Load()
	return mon != nil && mon.stalled.Load()
}

func (p *proc) say(ctx context.Context, command string) error {
	mon := p.mon.Load()
	if mon == nil {
		return errLost
	}
	_, err := mon.command(ctx, command)
	return err
}
