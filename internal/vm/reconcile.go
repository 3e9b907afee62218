package vm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"banger"
	"banger/internal/guestapi"
	"banger/internal/steps"
	"banger/internal/vmm"
)

// lookLimit bounds how long VMMs that do not answer keep the daemon from
// listening: those that live and can be asked are known after milliseconds.
const lookLimit = 3 * time.Second

// Reconcile looks at every VM once, at the daemon's start: one whose VMM lives
// is adopted and mended; what an earlier daemon had begun is finished or
// undone. It returns when all VMMs that answer are known; all that may take
// long is done after that, with the VM's lock held. A VM that cannot be
// repaired is shown with its problem and keeps none of the others from being
// looked at.
func (m *Manager) Reconcile(ctx context.Context) error {
	recs, err := m.c.Store.VMs(ctx)
	if err != nil {
		return err
	}
	limit := time.NewTimer(lookLimit)
	defer limit.Stop()
	var looked []<-chan struct{}
	due := newAutostarts()
	for _, r := range recs {
		unlock, err := m.locks.Lock(ctx, r.ID)
		if err != nil {
			return err
		}
		known := make(chan struct{})
		looked = append(looked, known)
		begun := due.add()
		m.wait.Go(func() {
			defer unlock()
			defer begun()
			if err := m.reconcile(r, sync.OnceFunc(func() { close(known) }), due, begun); err != nil && m.ctx.Err() == nil {
				m.c.Log.Error("reconcile", "vm", r.ID, "name", r.Spec.Name, "err", err)
			}
		})
	}
	m.wait.Go(func() { m.autostarted(due) })
	m.wait.Go(m.watchRoom)
	for _, known := range looked {
		select {
		case <-known:
		case <-limit.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// reconcile calls known once the VM's state can be told, and begun once a start
// that is due is recorded.
func (m *Manager) reconcile(rec banger.Record, known func(), due *autostarts, begun func()) error {
	defer known() // after all else: the state is no longer said to be changing
	ctx, end := m.repair(rec.ID)
	defer end()
	s, err := m.subject(ctx, rec)
	if err != nil {
		return err
	}
	s.background = true
	if err := m.look(ctx, s, known, begun); err != nil || !s.due() {
		return err
	}
	return s.autostart(ctx, due, known, begun)
}

// look finishes or undoes what an earlier daemon had begun with a VM, adopts a
// VMM that lives, and takes down what is left of one that does not.
func (m *Manager) look(ctx context.Context, s *subject, known, begun func()) error {
	rec := s.rec
	hook := s.hook(silent{m.c.Log.With("vm", rec.ID, "name", rec.Spec.Name)})
	switch {
	case rec.Intent == banger.IntentCreating || rec.Intent == banger.IntentDeleting:
		defer m.enter(rec.ID, banger.StateStopping)()
		return s.remove(context.WithoutCancel(ctx), hook)
	case rec.Intent == banger.IntentResetting:
		defer m.enter(rec.ID, banger.StateStopping)()
		return s.reset(ctx, hook)
	case rec.Run == nil:
		known()
		return s.finishGrowth(ctx)
	case rec.Intent == banger.IntentStopped:
		defer m.enter(rec.ID, banger.StateStopping)()
		return s.down(context.WithoutCancel(ctx), hook, &banger.Exit{Cause: banger.ExitKilled, At: m.c.Now()})
	}
	leave := sync.OnceFunc(m.enter(rec.ID, banger.StateStarting)) // until it is known better
	defer leave()
	p, err := s.process(m.ctx)
	if errors.Is(err, vmm.ErrNoGuest) {
		return s.startOver(ctx, hook, known, begun)
	}
	if isGone(err) {
		return s.lost(ctx, hook)
	}
	if err != nil {
		s.tellOf(banger.VMEvent{Type: banger.VMProblem, Problem: problem(err)})
		return s.save(m.ctx, func(r *banger.Record) { r.Problem = problem(err) })
	}
	h := p.Handle()
	if err := s.save(m.ctx, func(r *banger.Record) { r.Run.Handle = &h }); err != nil {
		return errors.Join(err, p.Close())
	}
	s.life = m.watch(rec.ID, rec.Run.Launch, p)
	s.life.told = !rec.Run.ReadyAt.IsZero()
	leave()
	s.tell(banger.VMAdopted)
	m.c.Log.Info("adopted", "vm", rec.ID, "name", rec.Spec.Name, "pid", h.PID)
	known()
	begun()
	m.mend(ctx, s, hook)
	return nil
}

// repair returns the context of a repair that nobody asked for. It ends with
// the daemon, and when the user wants the VM to end.
func (m *Manager) repair(id banger.VMID) (ctx context.Context, end func()) {
	ctx, cancel := context.WithCancel(m.ctx)
	m.mu.Lock()
	m.mends[id] = cancel
	m.mu.Unlock()
	return ctx, func() { m.interrupt(id) }
}

// interrupt ends the repair of a VM, if one is under way: what the user wants
// of it now goes before.
func (m *Manager) interrupt(id banger.VMID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if cancel := m.mends[id]; cancel != nil {
		cancel()
		delete(m.mends, id)
		m.changed() // for those who wait for what the repair may not have brought
	}
}

// mend repairs what belongs to a VM that lives; what cannot be repaired is
// shown and ends nothing.
func (m *Manager) mend(ctx context.Context, s *subject, hook steps.Hook) {
	err := steps.Mend(ctx, s, hook, s.run()...)
	if ctx.Err() != nil || s.life.over() {
		return
	}
	var p *banger.Problem
	if err != nil {
		p = problem(err)
		s.tellOf(banger.VMEvent{Type: banger.VMProblem, Problem: p})
		m.c.Log.Error("mend", "vm", s.rec.ID, "err", err)
	}
	if err := s.save(m.ctx, func(r *banger.Record) { r.Problem = p }); err != nil {
		m.c.Log.Error("mend", "vm", s.rec.ID, "err", err)
	}
}

// startOver starts a VM again whose VMM was launched, and whose daemon was killed
// before the guest ran: whoever asked for the start has been told that it goes on,
// and there is nothing yet that could be lost.
func (s *subject) startOver(ctx context.Context, hook steps.Hook, known, begun func()) error {
	s.m.c.Log.Info("started over: its VMM had no guest yet", "vm", s.rec.ID, "name", s.rec.Spec.Name)
	known()
	begun()
	return s.up(ctx, hook)
}

// lost takes down what is left of a run whose VMM ended while no daemon
// watched. The console may say how; a guest that asked for a reboot gets it.
func (s *subject) lost(ctx context.Context, hook steps.Hook) error {
	exit := banger.Exit{Cause: banger.ExitUnknown, At: s.m.c.Now(), Detail: "it ended while bangerd was not running"}
	exit = s.m.claimed(s.rec.ID, s.rec.Run.Launch, exit)
	if s.rec.Run.Handle == nil {
		exit.Detail = "bangerd ended before it was launched"
	}
	s.vanished = exit.Cause == banger.ExitUnknown
	if s.rec.Problem != nil { // of a run that is over
		if err := s.save(ctx, func(r *banger.Record) { r.Problem = nil }); err != nil {
			return err
		}
	}
	return s.after(ctx, hook, &exit)
}

// after takes down what is left of a run that has ended, and starts the VM
// again if its guest asked for that, but not without end.
func (s *subject) after(ctx context.Context, hook steps.Hook, exit *banger.Exit) error {
	if err := s.down(context.WithoutCancel(ctx), hook, exit); err != nil || !exit.Reboot {
		return err
	}
	if !s.m.mayReboot(s.rec.ID) {
		return s.save(context.WithoutCancel(ctx), func(r *banger.Record) { r.Problem = rebootsForEver(r.Spec.Name) })
	}
	if err := s.up(ctx, hook); err != nil {
		return fmt.Errorf("start again after the guest's reboot: %w", err)
	}
	return nil
}

// claimed adds what the guest program said on the console as its last word.
func (m *Manager) claimed(id banger.VMID, launch string, exit banger.Exit) banger.Exit {
	certain := exit.Cause == banger.ExitKilled || exit.Cause == banger.ExitGuest && exit.Detail == ""
	if certain {
		return exit
	}
	tail, err := tailOf(m.c.Paths.Serial(id), 0)
	if err != nil {
		return exit
	}
	switch guestapi.ParseExitMarker(tail, launch) {
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
	unlock, err := m.locks.Lock(m.ctx, id)
	if err != nil {
		return // the daemon ends: the next one will see it
	}
	defer unlock()
	ctx, end := m.repair(id)
	defer end()
	rec, err := m.c.Store.VM(ctx, id)
	if err != nil || rec.Run == nil || rec.Run.Launch != l.launch || m.life(id) != l {
		return
	}
	s, err := m.subject(ctx, rec)
	if err == nil {
		err = s.ended(ctx)
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	m.c.Log.Error("after a VMM's end", "vm", id, "err", err)
	if s == nil || s.rec.Problem != nil {
		return
	}
	if err := s.save(m.ctx, func(r *banger.Record) { r.Problem = problem(err) }); err != nil {
		m.c.Log.Error("after a VMM's end", "vm", id, "err", err)
	}
}

func (s *subject) ended(ctx context.Context) error {
	exit := s.life.exit
	s.m.c.Log.Info("the VM ended", "vm", s.rec.ID, "name", s.rec.Spec.Name, "cause", exit.Cause, "reboot", exit.Reboot, "detail", exit.Detail)
	s.background = true
	if exit.Reboot {
		defer s.m.enter(s.rec.ID, banger.StateStarting)()
	}
	return s.after(ctx, s.hook(silent{s.m.c.Log.With("vm", s.rec.ID, "name", s.rec.Spec.Name)}), &exit)
}

func problem(err error) *banger.Problem {
	e := banger.AsError(err)
	return &banger.Problem{Message: e.Message, Remedy: e.Remedy}
}
