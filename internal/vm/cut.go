package vm

import (
	"context"
	"time"

	"banger"
	"banger/internal/network"
)

// guard has the loss of the VM's network noticed while its VMM lives: the VM is
// shown with the problem, and whoever waits for its guest is told. The VMM is
// left alone: what runs in the guest goes on. The VM's lock is held.
func (s *subject) guard() {
	l := s.life
	if l == nil || l.guarded {
		return
	}
	a, err := s.attacher()
	if err != nil {
		return
	}
	f, ok := a.(network.Fragile)
	if !ok {
		return
	}
	gone, why := f.Lost(s.rec.ID)
	if gone == nil {
		return
	}
	l.guarded = true
	m, rec := s.m, s.rec
	m.wait.Go(func() {
		select {
		case <-gone:
		case <-l.gone:
			return
		case <-m.ctx.Done():
			return
		}
		// A network also ends with its VMM, which may be seen a moment later.
		late := time.NewTimer(partLimit)
		defer late.Stop()
		select {
		case <-l.gone:
		case <-m.ctx.Done():
		case <-late.C:
			m.cutOff(rec, l, why())
		}
	})
}

// cutOff says that nothing leads to a VM any more.
func (m *Manager) cutOff(rec banger.Record, l *life, why error) {
	m.c.Log.Error("a VM has lost its network", "vm", rec.ID, "name", rec.Spec.Name, "err", why)
	m.mu.Lock()
	l.problem, l.ready = why, false
	m.changed()
	m.mu.Unlock()
	m.c.Guests.Drop(rec.ID, l.launch) // ends the commands that run over it
}

// deaf is why a VM that runs cannot answer, nil if it can: nothing leads to it, or
// it is held.
func (m *Manager) deaf(l *life) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.problem == nil && l.held {
		return l.full
	}
	return l.problem
}

// untilDeaf returns a context that ends when the VM can answer no more, with the
// reason as its cause.
func (m *Manager) untilDeaf(ctx context.Context, l *life) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.await(ctx, func() (bool, error) { // it fails as ctx ends, or the daemon
			why := m.deaf(l)
			if why != nil {
				cancel(why)
			}
			return why != nil, nil
		})
	}()
	return ctx, func() { cancel(nil); <-done }
}
