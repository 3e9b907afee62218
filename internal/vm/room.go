package vm

import (
	"context"
	"errors"
	"maps"
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

	roomPatience = time.Second      // for all VMMs, before it is looked again without the rest
	roomLimit    = 10 * time.Second // for a VMM, before it is asked anew
)

// errPaused is in the error of whatever cannot be had of a VM that is held.
var errPaused = errors.New("paused")

// A stake is what a VM that runs has to lose when its host has no room for what
// it writes.
type stake struct {
	name    string
	disk    storage.Disk
	gauge   storage.Gauge // nil: the root disk is of none
	pauser  vmm.Pauser    // nil: it cannot be held
	staller vmm.Staller   // nil: a write that finds no room fails in the guest

	looked bool // whether it is held, or an earlier daemon held it, is known
	again  bool // it stalled though there was room
}

// early reports whether the VM has to be held before a write finds no room: a
// snapshot whose store cannot take one is lost, whole, and a guest that is told of
// a failure gives its file system up.
func (k *stake) early() bool { return k.pauser != nil && (k.gauge != nil || k.staller == nil) }

// idle reports whether there is nothing to ask or do for a VM that has been looked at:
// nobody holds it, and it would stall by itself.
func (m *Manager) idle(l *life) bool {
	k := l.room
	if k == nil || k.early() || k.again || k.staller != nil && k.staller.Stalled() {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return !l.held
}

// watchRoom holds VMs for which the host has no room, and lets them go on when it
// has.
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

// lookAtRoom looks once, at each VM that runs, and reports whether one that must be
// held in time has little room. A VMM that does not answer keeps no other VM from being
// held: it is not waited for, and looked at again once it has answered.
func (m *Manager) lookAtRoom(ctx context.Context) (little bool) {
	m.looking.Lock()
	defer m.looking.Unlock()
	m.mu.Lock()
	lives := maps.Clone(m.lives)
	m.mu.Unlock()
	nears, asked := make(chan bool, len(lives)), 0
	for id, l := range lives {
		if l.over() || !l.looked.TryLock() {
			continue
		}
		if m.idle(l) {
			l.looked.Unlock()
			continue
		}
		asked++
		m.wait.Go(func() {
			near := m.lookAt(ctx, id, l)
			l.looked.Unlock()
			nears <- near
		})
	}
	late := time.NewTimer(roomPatience)
	defer late.Stop()
	for range asked {
		select {
		case near := <-nears:
			little = little || near
		case <-late.C:
			return true
		}
	}
	return little
}

// lookAt looks at one.
func (m *Manager) lookAt(ctx context.Context, id banger.VMID, l *life) (near bool) {
	ctx, cancel := context.WithTimeoutCause(ctx, roomLimit, errors.New("no answer"))
	defer cancel()
	near, err := m.roomFor(ctx, id, l)
	if err != nil && !l.over() && m.ctx.Err() == nil {
		m.c.Log.Error("look after the room for a VM's disk", "vm", id, "err", err)
	}
	return near
}

// stakeOf is read once per life: a disk is not changed under a VM that runs.
func (m *Manager) stakeOf(ctx context.Context, id banger.VMID, l *life) (*stake, error) {
	if l.room != nil {
		return l.room, nil
	}
	r, err := m.c.Store.VM(ctx, id)
	if err != nil {
		return nil, err
	}
	k := &stake{name: r.Spec.Name, disk: (&subject{m: m, rec: r}).storageDisk()}
	k.gauge, _ = storage.Of(k.disk, m.c.Disks...).(storage.Gauge)
	k.pauser, _ = l.proc.(vmm.Pauser)
	k.staller, _ = l.proc.(vmm.Staller)
	l.room = k
	return k, nil
}

// roomFor holds a VM below the reserve and lets it go above twice that. One that
// an earlier daemon held is let go when there is room, whether it is held or not.
func (m *Manager) roomFor(ctx context.Context, id banger.VMID, l *life) (near bool, err error) {
	k, err := m.stakeOf(ctx, id, l)
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	held := l.held
	m.mu.Unlock()
	stalled := k.staller != nil && k.staller.Stalled()
	if m.idle(l) {
		return false, nil
	}
	free, reserve, err := m.c.Room(k.disk.Dir)
	if err != nil {
		return false, err
	}
	near = k.early() && free < nearly*reserve
	switch {
	case !held && (k.early() && free < reserve || stalled && free < 2*reserve):
		if !stalled { // one that is stays as it is, also under the next daemon
			if err := k.pauser.Pause(ctx); err != nil {
				return near, err
			}
		}
		m.c.Log.Warn("a VM is paused until there is room", "vm", id, "name", k.name, "free", free, "reserve", reserve)
		m.noRoom(l, true, noRoomIn(k.disk.Dir, free, 2*reserve))
	case free >= 2*reserve && (held || stalled || k.early() && !k.looked):
		err := m.goOn(ctx, k, l, stalled && !held)
		return near, err
	case k.again && !stalled:
		k.again = false
		m.noRoom(l, false, nil)
	}
	return near, nil
}

// goOn lets a VM go on. again: it stalled though there was room, as some file
// systems know no room by other bounds (a quota); if it goes on stalling, that is
// what is told.
func (m *Manager) goOn(ctx context.Context, k *stake, l *life, again bool) error {
	var told error
	if k.gauge != nil { // too late is told before it is seen by the guest alone
		if _, _, err := k.gauge.Fill(ctx, k.disk); banger.CodeOf(err) == banger.WrongState {
			told = err
		}
	}
	if err := k.pauser.Resume(ctx); err != nil {
		return errors.Join(err, told)
	}
	if again && k.again {
		told = errors.Join(told, banger.Errorf(banger.HostUnready, "its disk cannot be written in %s, and it is tried again every %s", k.disk.Dir, roomEvery).
			WithRemedy("make room, perhaps under a quota, and it goes on: df -h %s", k.disk.Dir))
	}
	k.looked, k.again = true, again
	m.noRoom(l, false, told)
	return nil
}

func noRoomIn(dir string, free, wanted int64) error {
	return banger.Errorf(banger.HostUnready, "%w: %s has %s left, and it goes on at %s",
		errPaused, dir, rough(free), rough(wanted)).WithRemedy("make room, and it goes on: df -h %s", dir)
}

// rough is a size that somebody reads: no digits that change with every write.
func rough(bytes int64) string {
	if bytes < 1<<20 {
		return banger.FormatSize(bytes >> 10 << 10)
	}
	return banger.FormatSize(bytes >> 20 << 20)
}

// noRoom records whether a VM is held, and what is wrong.
func (m *Manager) noRoom(l *life, held bool, why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.held, l.full = held, why
	m.changed()
}

// awaitRoom returns when a VM is not held any more, or has ended.
func (m *Manager) awaitRoom(ctx context.Context, l *life) error {
	return m.await(ctx, func() (bool, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		return !l.held || l.over(), nil
	})
}
