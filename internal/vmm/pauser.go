package vmm

import "context"

// A Pauser is a Process whose guest can be held: it stands still, answers nobody,
// and goes on where it was. Both are idempotent.
type Pauser interface {
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
}

// A Staller is a Pauser that pauses by itself when the host has no room for what
// its guest writes, so that nothing is lost: Resume has it try again.
type Staller interface {
	Pauser
	Stalled() bool // it has done so, and nobody has resumed it
}
