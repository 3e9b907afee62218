package vm

import (
	"context"
	"errors"
	"time"

	"banger"
	"banger/internal/storage"
	"banger/internal/vmm"
)

// roomEvery is how often the room is looked at. There is no event for a file
// system that runs full.
const roomEvery = 2 * time.Second

// watchRoom holds VMs before the host has no room for what they write: a snapshot
// whose store cannot take a write is lost, whole, and one that is held goes on.
func (m *Manager) watchRoom() {
	if m.c.Room == nil {
		return
	}
	t := time.NewTicker(roomEvery)
	defer t.Stop()
	for m.ctx.Err() == nil {
		m.lookAtRoom(m.ctx)
		select {
		case <-t.C:
		case <-m.ctx.Done():
		}
	}
}

// lookAtRoom looks once, at each VM that runs on a disk that can be lost so.
func (m *Manager) lookAtRoom(ctx context.Context) {
	m.looking.Lock()
	defer m.looking.Unlock()
	m.mu.Lock()
	some := len(m.lives) > 0
	m.mu.Unlock()
	if !some {
		return
	}
	recs, err := m.c.Store.VMs(ctx)
	if err != nil {
		return // whoever needs the records says so
	}
	for _, r := range recs {
		l := m.life(r.ID)
		if l == nil || l.over() {
			continue
		}
		d := (&subject{m: m, rec: r}).storageDisk()
		g, ok := storage.Of(d, m.c.Disks...).(storage.Gauge)
		p, can := l.proc.(vmm.Pauser)
		if !ok || !can {
			continue
		}
		if err := m.roomFor(ctx, r, l, p, d, g); err != nil && !l.over() && ctx.Err() == nil {
			m.c.Log.Error("look after the room for a VM's disk", "vm", r.ID, "name", r.Spec.Name, "err", err)
		}
	}
}

// roomFor holds a VM below the reserve and lets it go above twice that. One that
// an earlier daemon held is let go when there is room, whether it is held or not.
func (m *Manager) roomFor(ctx context.Context, r banger.Record, l *life, p vmm.Pauser, d storage.Disk, g storage.Gauge) error {
	free, reserve, err := m.c.Room(d.Dir)
	if err != nil {
		return err
	}
	m.mu.Lock()
	held, looked := l.held, l.looked
	m.mu.Unlock()
	switch {
	case free < reserve && !held:
		if err := p.Pause(ctx); err != nil {
			return err
		}
		m.c.Log.Warn("a VM is paused until there is room", "vm", r.ID, "name", r.Spec.Name, "free", free, "reserve", reserve)
		m.noRoom(l, true, banger.Errorf(banger.HostUnready, "paused: %s has %s left, and less than %s would lose its root disk",
			d.Dir, banger.FormatSize(free>>20<<20), banger.FormatSize(reserve>>20<<20)).WithRemedy("make room, and it goes on: df -h %s", d.Dir))
	case free >= 2*reserve && (held || !looked):
		// Too late is told before it is seen by the guest alone.
		_, _, lost := g.Fill(ctx, d)
		if banger.CodeOf(lost) != banger.WrongState {
			lost = nil
		}
		if err := p.Resume(ctx); err != nil {
			return errors.Join(err, lost)
		}
		m.noRoom(l, false, lost)
	}
	return nil
}

// noRoom records whether a VM is held, and what is wrong.
func (m *Manager) noRoom(l *life, held bool, why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.held, l.looked, l.full = held, true, why
	m.changed()
}
