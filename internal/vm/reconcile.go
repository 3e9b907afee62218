package vm

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"banger"
	"banger/internal/guestapi"
	"banger/internal/steps"
)

// Reconcile looks at every VM once, at the daemon's start: one whose VMM lives
// is adopted and mended; what an earlier daemon had begun is finished or
// undone. It returns when all VMMs that live are known; guests are reached
// after that. A VM that cannot be repaired is shown with its problem and keeps
// none of the others from being looked at.
func (m *Manager) Reconcile(ctx context.Context) error {
	recs, err := m.c.Store.VMs(ctx)
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(8)
	for _, r := range recs {
		g.Go(func() error {
			if err := m.reconcile(ctx, r.ID); err != nil {
				m.c.Log.Error("reconcile", "vm", r.ID, "name", r.Spec.Name, "err", err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (m *Manager) reconcile(ctx context.Context, id banger.VMID) error {
	unlock, err := m.locks.Lock(ctx, id)
	if err != nil {
		return err
	}
	locked := true
	defer func() {
		if locked {
			unlock()
		}
	}()
	rec, err := m.c.Store.VM(ctx, id)
	if err != nil {
		return err
	}
	s, err := m.subject(ctx, rec)
	if err != nil {
		return err
	}
	hook := s.hook(silent{})
	switch {
	case rec.Intent == banger.IntentCreating || rec.Intent == banger.IntentDeleting:
		return s.remove(ctx, hook)
	case rec.Run == nil:
		return nil
	case rec.Intent == banger.IntentStopped:
		return s.down(ctx, hook, &banger.Exit{Cause: banger.ExitKilled, At: m.c.Now()})
	}
	p, err := s.process(ctx)
	if isGone(err) {
		return s.lost(ctx, hook)
	}
	if err != nil {
		return s.save(ctx, func(r *banger.Record) { r.Problem = problem(err) })
	}
	h := p.Handle()
	if err := s.save(ctx, func(r *banger.Record) { r.Run.Handle = &h }); err != nil {
		return err
	}
	s.life = m.watch(id, rec.Run.Launch, p)
	m.c.Log.Info("adopted", "vm", id, "name", rec.Spec.Name, "pid", h.PID)
	// The guest may take its time, or never answer: the lock goes along.
	locked = false
	mendCtx, cancel := context.WithCancel(m.ctx)
	m.mu.Lock()
	m.mends[id] = cancel
	m.mu.Unlock()
	m.wait.Go(func() {
		defer unlock()
		defer m.interrupt(id)
		m.mend(mendCtx, s, hook)
	})
	return nil
}

// interrupt ends the repair of a VM, if one is under way: what the user wants
// of it now goes before.
func (m *Manager) interrupt(id banger.VMID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if cancel := m.mends[id]; cancel != nil {
		cancel()
		delete(m.mends, id)
	}
}

// mend repairs what belongs to a VM that lives; what cannot be repaired is
// shown and ends nothing.
func (m *Manager) mend(ctx context.Context, s *subject, hook steps.Hook) {
	err := steps.Mend(ctx, s, hook, run()...)
	if ctx.Err() != nil || s.life.over() {
		return
	}
	var p *banger.Problem
	if err != nil {
		p = problem(err)
		m.c.Log.Error("mend", "vm", s.rec.ID, "err", err)
	}
	if err := s.save(m.ctx, func(r *banger.Record) { r.Problem = p }); err != nil {
		m.c.Log.Error("mend", "vm", s.rec.ID, "err", err)
	}
}

// lost takes down what is left of a run whose VMM ended while no daemon
// watched. The console may say how; a guest that asked for a reboot gets it.
func (s *subject) lost(ctx context.Context, hook steps.Hook) error {
	exit := banger.Exit{Cause: banger.ExitUnknown, At: s.m.c.Now(), Detail: "it ended while bangerd was not running"}
	exit = s.claimed(exit)
	if s.rec.Run.Handle == nil {
		exit.Detail = "bangerd ended before it was launched"
	}
	if err := s.down(ctx, hook, &exit); err != nil {
		return err
	}
	if exit.Reboot {
		return s.up(ctx, hook)
	}
	return nil
}

// claimed adds what the guest program said on the console as its last word.
func (s *subject) claimed(exit banger.Exit) banger.Exit {
	certain := exit.Cause == banger.ExitKilled || exit.Cause == banger.ExitGuest && exit.Detail == ""
	if certain || s.rec.Run == nil {
		return exit
	}
	tail, err := tailOf(s.m.c.Paths.Serial(s.rec.ID))
	if err != nil {
		return exit
	}
	switch guestapi.ParseExitMarker(tail, s.rec.Run.Launch) {
	case "reboot":
		return banger.Exit{Cause: banger.ExitGuest, Reboot: true, At: exit.At}
	case "poweroff":
		return banger.Exit{Cause: banger.ExitGuest, At: exit.At}
	}
	return exit
}

// ended is called once a VMM has ended, whoever ended it. What was meant to
// end has been taken down by whoever meant it; the rest is done here.
func (m *Manager) ended(id banger.VMID, l *life) {
	ctx := m.ctx
	unlock, err := m.locks.Lock(ctx, id)
	if err != nil {
		return // the daemon ends: the next one will see it
	}
	defer unlock()
	rec, err := m.c.Store.VM(ctx, id)
	if err != nil || rec.Run == nil || rec.Run.Launch != l.launch || m.life(id) != l {
		return
	}
	s, err := m.subject(ctx, rec)
	if err == nil {
		err = s.ended(ctx)
	}
	if err != nil {
		m.c.Log.Error("after a VMM's end", "vm", id, "err", err)
	}
}

func (s *subject) ended(ctx context.Context) error {
	exit := s.claimed(s.life.exit)
	s.m.c.Log.Info("the VM ended", "vm", s.rec.ID, "name", s.rec.Spec.Name, "cause", exit.Cause, "reboot", exit.Reboot, "detail", exit.Detail)
	hook := s.hook(silent{})
	if !exit.Reboot {
		return s.down(ctx, hook, &exit)
	}
	defer s.m.enter(s.rec.ID, banger.StateStarting)()
	if err := s.down(ctx, hook, &exit); err != nil {
		return err
	}
	if err := s.up(ctx, hook); err != nil {
		return fmt.Errorf("start again after the guest's reboot: %w", err)
	}
	return nil
}

func problem(err error) *banger.Problem {
	e := banger.AsError(err)
	return &banger.Problem{Message: e.Message, Remedy: e.Remedy}
}
