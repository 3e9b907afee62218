package vm

import (
	"context"
	"fmt"
	"time"

	"banger"
)

// List returns all VMs, sorted by name.
func (m *Manager) List(ctx context.Context) ([]banger.VM, error) {
	recs, err := m.c.Store.VMs(ctx)
	if err != nil {
		return nil, err
	}
	vms := make([]banger.VM, 0, len(recs))
	for _, r := range recs {
		vms = append(vms, m.view(r))
	}
	return vms, nil
}

// Show returns the VM that ref names.
func (m *Manager) Show(ctx context.Context, ref string) (banger.VM, error) {
	r, err := m.c.Store.FindVM(ctx, ref)
	if err != nil {
		return banger.VM{}, err
	}
	return m.view(r), nil
}

// view joins a record with what is observed.
func (m *Manager) view(r banger.Record) banger.VM {
	v := banger.VM{
		ID: r.ID, Spec: r.Spec, ImageID: r.ImageID, Lease: r.Lease, State: banger.StateStopped,
		Problem: r.Problem, LastExit: r.LastExit, CreatedAt: r.CreatedAt,
		SerialLog: m.c.Paths.Serial(r.ID), VMMLog: m.c.Paths.VMMLog(r.ID),
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.lives[r.ID]
	switch {
	case m.phase[r.ID] != "":
		v.State = m.phase[r.ID]
	case l != nil && !l.over():
		v.State = banger.StateRunning
	case l != nil && l.exit.Reboot && r.Intent == banger.IntentRunning && r.Problem == nil:
		v.State = banger.StateStarting // as soon as what is left of the run is taken down
	case r.Problem != nil:
		v.State = banger.StateError
	}
	if l != nil && l.over() {
		exit := l.exit // known before it is recorded
		v.LastExit = &exit
	}
	if l != nil && !l.over() {
		h := l.proc.Handle()
		v.PID, v.Accelerator = h.PID, h.Accelerator
		v.Ready = l.ready && v.State == banger.StateRunning
		if r.Run != nil {
			v.StartedAt, v.Stack = r.Run.StartedAt, r.Run.Endpoint.Stack
		}
		if l.problem != nil {
			v.Problem = problem(l.problem)
		}
	}
	return v
}

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
// cannot become it by itself. timeout 0 means no limit.
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
	var v banger.VM
	err = m.await(ctx, func() (bool, error) {
		if r, err = m.c.Store.VM(ctx, r.ID); err != nil {
			return false, err
		}
		v = m.view(r)
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
			if lost := m.lostNetwork(l); lost != nil {
				return false, unreachable(v.Name, lost)
			}
		}
		if v.State == banger.StateRunning && !v.Ready && !m.repairing(r.ID) {
			// The repair that looked for its guest failed, and nobody else looks.
			_, _, err := m.reach(ctx, r)
			return err == nil, err
		}
		return v.Ready, nil
	})
	if err == nil && what == ForBooted {
		err = m.waitBooted(ctx, r)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return v, err
}

// unreachable is the error of whoever needs the guest of a VM that lost its network.
func unreachable(name string, lost error) error {
	e := banger.AsError(lost)
	return banger.Errorf(banger.WrongState, "%s cannot be reached: %w", name, lost).WithRemedy("%s", e.Remedy)
}

// repairing reports whether a repair of a VM is under way.
func (m *Manager) repairing(id banger.VMID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mends[id] != nil
}

func (m *Manager) waitBooted(ctx context.Context, r banger.Record) error {
	g, _, err := m.reach(ctx, r)
	if err != nil {
		return err
	}
	st, err := g.WaitBooted(ctx)
	if err == nil && !st.Booted {
		err = fmt.Errorf("the guest's init says %q", st.System)
	}
	return err
}
