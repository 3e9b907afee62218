package vm

import (
	"context"
	"fmt"
	"time"

	"banger"
	"banger/internal/guestapi"
)

// What Wait waits for.
const (
	ForReady   = "ready"
	ForBooted  = "booted"
	ForStopped = "stopped"
)

// CheckWait refuses what cannot be waited for.
func CheckWait(what string) error {
	if what != ForReady && what != ForBooted && what != ForStopped {
		return invalid("cannot wait for %q", what).WithRemedy("wait for ready, booted or stopped")
	}
	return nil
}

// Wait returns the VM once it is what is waited for, or an error as soon as it
// cannot become it by itself. A guest whose init is going down, as after a reboot
// that was asked for inside, is neither ready nor booted: its next run is waited
// for. timeout 0 means no limit.
func (m *Manager) Wait(ctx context.Context, ref, what string, timeout time.Duration) (banger.VM, error) {
	r, err := m.c.Store.FindVM(ctx, ref)
	if err != nil {
		return banger.VM{}, err
	}
	if err := CheckWait(what); err != nil {
		return banger.VM{}, err
	}
	if timeout > 0 {
		late := banger.Errorf(banger.TimedOut, "%s was not %s within %s", r.Spec.Name, what, timeout).
			WithRemedy("banger vm logs %s shows its console", r.Spec.Name).WithLog(m.c.Paths.Serial(r.ID))
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, late)
		defer cancel()
	}
	v, err := m.waitFor(ctx, &r, what)
	for err == nil && what != ForStopped {
		var leaving bool
		if leaving, err = m.leaving(ctx, r, what); err != nil || !leaving {
			break
		}
		v, err = m.waitFor(ctx, &r, what)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return v, err
}

// waitFor is Wait as far as it can be told from outside of the guest, booted
// being the same as ready. r is kept up to date.
func (m *Manager) waitFor(ctx context.Context, r *banger.Record, what string) (v banger.VM, err error) {
	err = m.await(ctx, func() (bool, error) {
		now, err := m.c.Store.VM(ctx, r.ID)
		if err != nil {
			return false, err
		}
		*r = now
		v = m.view(now)
		down := v.State == banger.StateStopped || v.State == banger.StateError
		if what == ForStopped {
			// Not before what is left of the run is taken down and told of, or
			// it is known why that cannot be.
			return down && (m.life(r.ID) == nil || r.Problem != nil), nil
		}
		if down {
			return false, banger.Errorf(banger.WrongState, "%s is %s: it will not be %s", v.Name, v.State, what).WithRemedy("banger start %s", v.Name)
		}
		if l := m.life(r.ID); l != nil && !l.over() {
			if why := m.deaf(l); why != nil {
				return false, unreachable(v.Name, why)
			}
		}
		if v.State == banger.StateRunning && !v.Ready && !m.repairing(r.ID) {
			// The repair that looked for its guest failed, and nobody else looks.
			_, _, err := m.reach(ctx, now)
			return err == nil, err
		}
		return v.Ready, nil
	})
	return v, err
}

// leaving asks the guest of a VM that is ready how its init is, waiting until it
// has booted if that is wanted. It returns true once a run has ended that was
// going down already. Only systemd says that it is.
func (m *Manager) leaving(ctx context.Context, r banger.Record, what string) (bool, error) {
	l := m.life(r.ID)
	if l == nil || l.over() {
		return true, nil
	}
	st, err := m.ask(ctx, r, what)
	switch {
	case err == nil && st.System == guestapi.SystemStopping:
	case err != nil && m.parting(ctx, r.ID, l):
	case err == nil && what == ForBooted && !st.Booted:
		return false, fmt.Errorf("the guest's init says %q", st.System)
	default:
		return false, err
	}
	err = m.await(ctx, func() (bool, error) { return l.over() || m.deaf(l) != nil, nil })
	return err == nil, err
}

func (m *Manager) ask(ctx context.Context, r banger.Record, what string) (guestapi.Status, error) {
	g, _, err := m.reach(ctx, r)
	if err != nil {
		return guestapi.Status{}, err
	}
	if what == ForBooted {
		return g.WaitBooted(ctx)
	}
	return g.Status(ctx)
}

// unreachable is the error of whoever needs the guest of a VM that cannot answer.
func unreachable(name string, why error) error {
	e := banger.AsError(why)
	return banger.Errorf(banger.WrongState, "%s cannot be reached: %w", name, why).WithRemedy("%s", e.Remedy)
}

// repairing reports whether a repair of a VM is under way.
func (m *Manager) repairing(id banger.VMID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mends[id] != nil
}
