package routed

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"banger"
	"banger/internal/network"
)

// wanted are the taps that the records ask for, but for those of VMs that were
// detached: their run is recorded until all of it is taken down.
func (a *Attacher) wanted(ctx context.Context) ([]network.Tap, error) {
	taps, err := a.c.Wanted(ctx)
	if err != nil {
		return nil, fmt.Errorf("read which taps are wanted: %w", err)
	}
	return slices.DeleteFunc(taps, func(t network.Tap) bool {
		_, down := a.down.Load(t.VM)
		return down
	}), nil
}

func (a *Attacher) sync(ctx context.Context) error {
	taps, err := a.wanted(ctx)
	if err != nil {
		return err
	}
	return a.set(ctx, taps)
}

// set makes the host have exactly these taps. The connection is held while
// there are any, so that banger-root stays and looks after them.
func (a *Attacher) set(ctx context.Context, taps []network.Tap) error {
	if len(taps) == 0 {
		a.c.Names(false) // whatever becomes of the rest
	}
	slices.SortFunc(taps, func(x, y network.Tap) int { return x.Addr.Compare(y.Addr) })
	err := a.ask(ctx, func(r Root) error {
		c := network.Config{Tag: a.c.Tag, Subnet: a.c.Subnet().Prefix, Taps: taps}
		if len(taps) > 0 {
			c.Names = a.c.Names(true)
		}
		err := a.setWithPorts(ctx, r, c)
		a.odd = err != nil
		if err == nil && len(taps) > 0 {
			a.tell(r)
		}
		return err
	})
	if err == nil && len(taps) > 0 {
		return nil
	}
	if err != nil {
		err = fmt.Errorf("set the host's network: %w", err)
	}
	return errors.Join(err, a.hangUp())
}

// Pending are the links that nobody wants any more and that are there still.
func (a *Attacher) Pending(ctx context.Context) ([]string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.left(ctx)
}

func (a *Attacher) left(ctx context.Context) ([]string, error) {
	taps, err := a.wanted(ctx)
	if err != nil {
		return nil, err
	}
	there, err := a.c.There()
	return slices.DeleteFunc(there, func(name string) bool {
		return name == a.c.Gateway && len(taps) > 0 ||
			slices.ContainsFunc(taps, func(t network.Tap) bool { return a.c.Tap(t.VM) == name })
	}), err
}

// Tend is called from time to time. Where there is, or should be, something of
// banger-root's on the host and no connection to it, it tries to make one and
// sets all that is wanted again.
func (a *Attacher) Tend(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.connected() {
		return nil
	}
	taps, err := a.wanted(ctx)
	if err != nil {
		return err
	}
	if len(taps) == 0 && !a.odd {
		if there, err := a.c.There(); err != nil || len(there) == 0 {
			return err
		}
	}
	if err := a.set(ctx, taps); err != nil && banger.CodeOf(err) != banger.NeedsRoot {
		return err
	}
	return nil
}
