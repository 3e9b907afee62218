package vm

import (
	"context"
	"errors"
	"time"

	"banger"
	"banger/internal/storage"
	"banger/internal/vmm"
)

// How often the room is looked at, as there is no event for a file system that
// runs full: often where there is less than some times the reserve, so that a disk
// that takes 2 GB a second uses the reserve up between no two looks.
const (
	roomEvery = 2 * time.Second
	roomSoon  = 100 * time.Millisecond
	nearly    = 20 // times the reserve
)

// watchRoom holds VMs before the host has no room for what they write: a snapshot
// whose store cannot take a write is lost, whole, and one that is held goes on.
func (m *Manager) watchRoom() {
	if m.c.Room == nil {
		return
	}
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-m.ctx.Done():
			return
		}
		if m.lookAtRoom(m.ctx) {
			t.Reset(roomSoon)
		} else {
			t.Reset(roomEvery)
		}
	}
}

// lookAtRoom looks once, at each VM that runs on a disk that can be lost so, and
// reports whether one of them has little room.
func (m *Manager) lookAtRoom(ctx context.Context) (little bool) {
	m.looking.Lock()
	defer m.looking.Unlock()
	m.mu.Lock()
	some := len(m.lives) > 0
	m.mu.Unlock()
	if !some {
		return false
	}
	recs, err := m.c.Store.VMs(ctx)
	if err != nil {
		return false // whoever needs the records says so
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
		near, err := m.roomFor(ctx, r, l, p, d, g)
		if err != nil && !l.over() && ctx.Err() == nil {
			m.c.Log.Error("look after the room for a VM's disk", "vm", r.ID, "name", r.Spec.Name, "err", err)
		}
		little = little || near
	}
	return little
}

// roomFor holds a VM below the reserve and lets it go above twice that. One that
// an earlier daemon held is let go when there is room, whether it is held or not.
func (m *Manager) roomFor(ctx context.Context, r banger.Record, l *life, p vmm.Pauser, d storage.Disk, g storage.Gauge) (near bool, err error) {
	free, reserve, err := m.c.Room(d.Dir)
	if err != nil {
		return false, err
	}
	near = free < nearly*reserve
	m.mu.Lock()
	held, looked := l.held, l.looked
	m.mu.Unlock()
	switch {
	case free < reserve && !held:
		if err := p.Pause(ctx); err != nil {
			return near, err
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
			return near, errors.Join(err, lost)
		}
		m.noRoom(l, false, lost)
	}
	return near, nil
}

// noRoom records whether a VM is held, and what is wrong.
func (m *Manager) noRoom(l *life, held bool, why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.held, l.looked, l.full = held, true, why
	m.changed()
}
