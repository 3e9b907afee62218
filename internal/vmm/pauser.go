package vmm

import "context"

// A Pauser is a Process whose guest can be held: it stands still, answers nobody,
// and goes on where it was. Both are idempotent.
type Pauser interface {
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
}
