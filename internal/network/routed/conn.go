package routed

import (
	"context"
	"errors"
	"time"

	"banger"
)

// A process that was killed takes connections for an instant more.
const (
	asks  = 5
	pause = 20 * time.Millisecond
)

// ask asks banger-root, and again if the connection is lost: it may have been for
// long and unseen, or banger-root died over what it was asked. All of that may be
// asked again.
func (a *Attacher) ask(ctx context.Context, what func(Root) error) error {
	for n := 1; ; n++ {
		r, err := a.connect(ctx)
		if err != nil {
			return unreached{err}
		}
		if err = what(r); banger.CodeOf(err) != banger.NeedsRoot || n == asks {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// unreached is why there is no connection to banger-root.
type unreached struct{ error }

func (e unreached) Unwrap() error { return e.error }

// absent reports whether banger-root is not to be had, or died over a request.
func absent(err error) bool {
	return errors.As(err, new(unreached)) || banger.CodeOf(err) == banger.NeedsRoot
}

// connect returns the connection, a new one where there is none or it was lost.
func (a *Attacher) connect(ctx context.Context) (Root, error) {
	if a.connected() {
		return a.root, nil
	}
	if err := a.hangUp(); err != nil {
		a.c.Log.Warn("close the connection to banger-root", "err", err)
	}
	r, err := a.c.Dial(ctx)
	if err != nil {
		return nil, err
	}
	a.root = r
	return r, nil
}

func (a *Attacher) connected() bool {
	if a.root == nil {
		return false
	}
	select {
	case <-a.root.Done():
		return false
	default:
		return true
	}
}

func (a *Attacher) hangUp() error {
	if a.root == nil {
		return nil
	}
	r := a.root
	a.root = nil
	return r.Close()
}
