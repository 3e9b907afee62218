package vm

import (
	"context"
	"fmt"
	"sync"

	"banger"
	"banger/internal/steps"
)

// autostartAtOnce is how many VMs start at a time by themselves: after a boot
// the host has other things to do, too.
const autostartAtOnce = 4

// autostarts are the starts of VMs that start with the daemon.
type autostarts struct {
	slots chan struct{}
	begun sync.WaitGroup // VMs of which it is not yet known, or not yet recorded, that they start
}

func newAutostarts() *autostarts {
	return &autostarts{slots: make(chan struct{}, autostartAtOnce)}
}

// add counts one VM until the returned function is called, which may be called
// more than once.
func (a *autostarts) add() (begun func()) {
	a.begun.Add(1)
	return sync.OnceFunc(a.begun.Done)
}

// autostarted tells whoever counts boots that nothing is due any more: what was
// begun is recorded, and finished by the next daemon if this one is killed.
func (m *Manager) autostarted(a *autostarts) {
	a.begun.Wait()
	if m.ctx.Err() == nil && m.c.Autostarted != nil {
		m.c.Autostarted()
	}
}

// due reports whether a VM is to be started by the daemon itself: one with
// autostart that does not run, when the host has booted, or when its VMM
// vanished while no daemon ran. One that the user or its guest has ended since
// the host booted stays so.
func (s *subject) due() bool {
	idle := s.rec.Intent == banger.IntentStopped && s.rec.Run == nil && s.life == nil
	return s.rec.Spec.Autostart && idle && (s.m.c.Autostart || s.vanished)
}

// autostart starts a VM that is due. A failure is the VM's problem, shown with
// it, and keeps none of the others from starting.
func (s *subject) autostart(ctx context.Context, a *autostarts, known, begun func()) error {
	defer s.m.enter(s.rec.ID, banger.StateStarting)()
	known()
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return nil // the daemon ends, or the user wants something else of it
	}
	log := s.m.c.Log.With("vm", s.rec.ID, "name", s.rec.Spec.Name)
	log.Info("starts with the daemon")
	hook := s.hook(silent{log})
	err := s.up(ctx, func(step string, at steps.Phase) error {
		begun() // the first step comes after the record
		return hook(step, at)
	})
	if err != nil {
		return fmt.Errorf("start with the daemon: %w", err)
	}
	return nil
}
