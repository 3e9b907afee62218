package vm

import (
	"context"
	"errors"

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
		v.Ready = l.ready && !l.held && v.State == banger.StateRunning
		if r.Run != nil {
			v.StartedAt, v.Stack, v.StackNote = r.Run.StartedAt, r.Run.Endpoint.Stack, r.Run.Endpoint.Note
		}
		if v.Problem == nil {
			v.Problem = l.lacks
		}
		if p := errors.Join(l.full, l.problem); p != nil {
			v.Problem = problem(p)
		}
		v.OpenPorts = m.openPorts(v)
	}
	return v
}
