package client

import (
	"context"
	"time"
)

// lookForNext is how often a daemon is looked for by who goes on with the next.
const lookForNext = 200 * time.Millisecond

// Next waits for a daemon to come after one that has ended, as find, which is
// asked again and again, finds it. It starts none: whoever ended the last one may
// have meant it. Its error is the end of ctx.
func Next[T any](ctx context.Context, find func(context.Context) (T, error)) (T, error) {
	for {
		select {
		case <-ctx.Done():
			var none T
			return none, context.Cause(ctx)
		case <-time.After(lookForNext): // at once it may be the one that is ending
		}
		if c, err := find(ctx); err == nil {
			return c, nil
		}
	}
}
