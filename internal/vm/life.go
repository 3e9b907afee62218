package vm

import (
	"context"
	"sync"

	"banger"
	"banger/internal/vmm"
)

// A life is one running VMM under this daemon's eyes.
type life struct {
	launch string
	proc   vmm.Process
	gone   chan struct{} // closed when the VMM has ended
	exit   banger.Exit   // valid once gone is closed
	told   bool          // that it is ready was an event, perhaps of an earlier daemon; guarded by Manager.mu
	ready  bool          // the guest program has answered; guarded by Manager.mu

	guarded bool  // the loss of its network is noticed; guarded by the VM's lock
	problem error // how it was lost; guarded by Manager.mu

	lacks  *banger.Problem // what its guest does without; guarded by Manager.mu
	looked sync.Mutex      // held while its room is looked at
	room   *stake          // what it needs room for, once looked at; guarded by looked
	held   bool            // it is paused for want of room; guarded by Manager.mu
	full   error           // why it is paused, or what was lost; guarded by Manager.mu
}

// over reports whether the VMM has ended.
func (l *life) over() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

// life returns the running VMM of a VM, nil if there is none.
func (m *Manager) life(id banger.VMID) *life {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lives[id]
}

// watch takes a VMM under the daemon's eyes: one goroutine that sleeps until
// it ends.
func (m *Manager) watch(id banger.VMID, launch string, p vmm.Process) *life {
	l := &life{launch: launch, proc: p, gone: make(chan struct{})}
	m.mu.Lock()
	m.lives[id] = l
	m.changed()
	m.mu.Unlock()
	m.wait.Go(func() {
		exit, err := p.Wait(m.ctx)
		if m.ctx.Err() != nil {
			return // the daemon ends; the VMM does not
		}
		if err != nil {
			m.c.Log.Error("wait for a VMM", "vm", id, "err", err)
			exit = banger.Exit{Cause: banger.ExitUnknown, Detail: err.Error(), At: m.c.Now()}
		}
		l.exit = m.claimed(id, launch, exit) // before anybody hears of it
		close(l.gone)
		m.mu.Lock()
		m.changed()
		m.mu.Unlock()
		m.ended(id, l)
	})
	return l
}

// forget drops l, if it is still what is known of the VM.
func (m *Manager) forget(id banger.VMID, l *life) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l != nil && m.lives[id] == l {
		delete(m.lives, id)
		m.changed()
	}
}

// setReady says that the guest of this run answers.
func (s *subject) setReady(l *life) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if !l.ready && l.problem == nil {
		l.ready = true
		s.m.changed()
	}
	if !l.told {
		l.told = true
		s.tell(banger.VMReady)
	}
}

// enter says what is being done with a VM until the returned function is called.
func (m *Manager) enter(id banger.VMID, s banger.State) (leave func()) {
	set := func(s banger.State) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if s == "" {
			delete(m.phase, id)
		} else {
			m.phase[id] = s
		}
		m.changed()
	}
	set(s)
	return func() { set("") }
}

// changed wakes all who wait for news. m.mu is held.
func (m *Manager) changed() {
	close(m.news)
	m.news = make(chan struct{})
}

// await calls done after every observable change until it reports true or
// fails, ctx ends or the Manager closes.
func (m *Manager) await(ctx context.Context, done func() (bool, error)) error {
	for {
		m.mu.Lock()
		news := m.news
		m.mu.Unlock()
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.ctx.Done():
			return banger.Errorf(banger.Canceled, "the daemon is ending")
		}
	}
}
