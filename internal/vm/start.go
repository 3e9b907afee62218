package vm

import (
	"context"
	"errors"
	"fmt"

	"banger"
	"banger/internal/steps"
)

// Start starts a stopped VM and returns when its guest is ready.
func (m *Manager) Start(ctx context.Context, ref string, rep Reporter) (banger.VM, error) {
	return m.change(ctx, ref, keepsRun, func(s *subject) error {
		if s.life != nil && !s.life.over() {
			return banger.Errorf(banger.WrongState, "%s is already running", s.rec.Spec.Name).WithRemedy("banger ssh %s", s.rec.Spec.Name)
		}
		if err := m.preflight(ctx, s.rec.Spec, rep); err != nil {
			return err
		}
		defer m.enter(s.rec.ID, banger.StateStarting)()
		m.forgetReboots(s.rec.ID)
		return s.upFor(ctx, rep)
	})
}

// preflight says why a VM cannot be started now, before anything is touched.
func (m *Manager) preflight(ctx context.Context, spec banger.Spec, rep Reporter) error {
	a, err := m.attacher(spec)
	if err != nil {
		return err
	}
	b, err := m.backend(spec.Backend)
	if err != nil {
		return err
	}
	// Whether it works here at all is for the step that needs it to say.
	if caps, err := b.Probe(ctx); err == nil && caps.NeedsTap && spec.Network != banger.NetworkRouted {
		return needsTap(spec)
	}
	if err := a.Probe(ctx); err != nil {
		return err
	}
	return m.preflightNAT(ctx, a, spec, rep)
}

// What a change means for a run that is under way: a repair of what is to end
// is not waited for.
const (
	endsRun  = true
	keepsRun = false
)

// change runs fn on a VM with its lock held, and returns the VM as it is then.
func (m *Manager) change(ctx context.Context, ref string, ends bool, fn func(*subject) error) (banger.VM, error) {
	rec, err := m.c.Store.FindVM(ctx, ref)
	if err != nil {
		return banger.VM{}, err
	}
	if ends {
		m.interrupt(rec.ID)
	} else if err := m.mending(rec); err != nil {
		return banger.VM{}, err
	}
	unlock, err := m.locks.Lock(ctx, rec.ID)
	if err != nil {
		return banger.VM{}, err
	}
	defer unlock()
	if rec, err = m.again(ctx, ref, rec); err != nil {
		return banger.VM{}, err
	}
	s, err := m.subject(ctx, rec)
	if err != nil {
		return banger.VM{}, err
	}
	if err := fn(s); err != nil {
		return banger.VM{}, m.clear(err)
	}
	return m.view(s.rec), nil
}

// again returns the record that ref named before the VM's lock was waited for, as
// it is now that nobody else changes it. Meanwhile it may have been deleted, or
// been given another name: then whoever said ref did not mean it. An ID is for good.
func (m *Manager) again(ctx context.Context, ref string, was banger.Record) (banger.Record, error) {
	now, err := m.c.Store.VM(ctx, was.ID)
	if banger.CodeOf(err) == banger.NotFound {
		return now, banger.Errorf(banger.NotFound, "%s was deleted meanwhile", was.Spec.Name).WithRemedy("banger ps")
	}
	if err == nil && ref == was.Spec.Name && ref != now.Spec.Name {
		return now, banger.Errorf(banger.NotFound, "%s was renamed to %s meanwhile", ref, now.Spec.Name).WithRemedy("banger ps")
	}
	return now, err
}

// mending is why a VM cannot be changed whose guest is waited for in the
// background, which may take long: it runs.
func (m *Manager) mending(r banger.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.lives[r.ID]; m.mends[r.ID] == nil || l == nil || l.over() {
		return nil
	}
	return banger.Errorf(banger.WrongState, "%s is running, and its guest is waited for", r.Spec.Name).WithRemedy("banger vm wait %s, or banger stop %[1]s", r.Spec.Name)
}

// upFor is up for somebody who is told what is not as it could be.
func (s *subject) upFor(ctx context.Context, rep Reporter) error {
	err := s.up(ctx, s.hook(rep))
	if err == nil {
		s.tellNote(rep)
	}
	return err
}

// tellNote tells whoever started the VM what its network is not, and what its guest
// does without.
func (s *subject) tellNote(rep Reporter) {
	if lacks := s.m.lacksOf(s.life); lacks != nil {
		rep.Message("%s runs, but %s", s.rec.Spec.Name, lacks.Message)
	}
	if note := s.rec.Run.Endpoint.Note; note != "" {
		rep.Message("network of %s: %s; banger doctor says more", s.rec.Spec.Name, note)
	}
	for _, note := range s.portNotes() {
		rep.Message("ports of %s are led by bangerd alone: %s", s.rec.Spec.Name, note)
	}
}

// up is start, with what went wrong kept in the record.
func (s *subject) up(ctx context.Context, hook steps.Hook) error {
	err := s.start(ctx, hook)
	if err == nil {
		return nil
	}
	e := banger.AsError(err)
	p := &banger.Problem{Message: e.Message, Remedy: e.Remedy}
	if e.Code == banger.Canceled {
		p = nil // the user's own doing is no problem of the VM's
	}
	return errors.Join(err, s.save(context.WithoutCancel(ctx), func(r *banger.Record) { r.Problem = p }))
}

// start brings the run list up; a failure takes it down again, and the VM is
// stopped. What is left of an earlier run that nobody took down goes first.
func (s *subject) start(ctx context.Context, hook steps.Hook) error {
	if s.rec.Run != nil {
		if err := s.down(ctx, hook, nil); err != nil {
			return fmt.Errorf("clear what an earlier run left: %w", err)
		}
	}
	if err := s.resetting(ctx, hook); err != nil {
		return err
	}
	now := s.m.c.Now()
	err := s.save(ctx, func(r *banger.Record) {
		r.Intent = banger.IntentRunning
		r.Run = &banger.Run{Launch: random(8), StartedAt: now}
		r.Problem = nil
	})
	if err != nil {
		return err
	}
	s.tell(banger.VMStarting)
	err = s.launch(ctx, hook)
	if err == nil || s.background && ctx.Err() != nil && s.rec.Run != nil && s.life != nil {
		return err
	}
	e := s.explain(ctx, err)
	s.tellOf(banger.VMEvent{Type: banger.VMFailed, Problem: problem(e)})
	if errors.Is(err, steps.ErrLeft) {
		// The run stays recorded: whoever comes next takes it down first.
		return errors.Join(e, s.save(context.WithoutCancel(ctx), func(r *banger.Record) { r.Intent = banger.IntentStopped }))
	}
	return errors.Join(e, s.settle(context.WithoutCancel(ctx), nil))
}

// launch brings the run list up. In the background the guest is waited for
// apart: when the daemon ends, or the user wants something else of the VM, that
// wait ends, and a VMM that lives stays for the next to adopt, or to end.
func (s *subject) launch(ctx context.Context, hook steps.Hook) error {
	list := s.run()
	if !s.background {
		return steps.Up(ctx, s, hook, list...)
	}
	last := len(list) - 1
	if err := steps.Up(context.WithoutCancel(ctx), s, hook, list[:last]...); err != nil {
		return err
	}
	err := steps.Mend(ctx, s, hook, list[last:]...)
	if err == nil || ctx.Err() != nil && !s.life.over() {
		return err
	}
	return errors.Join(err, steps.Down(ctx, s, hook, list...))
}

// down takes the run list down and records that it is; exit, if known, is how
// the run ended.
func (s *subject) down(ctx context.Context, hook steps.Hook, exit *banger.Exit) error {
	if err := steps.Down(ctx, s, hook, s.run()...); err != nil {
		return err
	}
	return s.settle(ctx, exit)
}

// settle records that nothing of a run is left. While a VMM could not be
// ended its run stays recorded, for the next repair.
func (s *subject) settle(ctx context.Context, exit *banger.Exit) error {
	if p, err := s.process(ctx); !isGone(err) {
		return errors.Join(err, s.letGo(p))
	}
	// After the record: in between nobody could tell how the run ended.
	defer func(ls ...*life) {
		for _, l := range ls {
			s.m.forget(s.rec.ID, l)
		}
	}(s.life, s.past)
	s.life, s.past = nil, nil
	err := s.save(ctx, func(r *banger.Record) {
		if r.Intent == banger.IntentRunning {
			r.Intent = banger.IntentStopped
		}
		r.Run = nil
		if exit != nil {
			r.LastExit = exit
		}
	})
	if err == nil && exit != nil {
		s.tellOf(banger.VMEvent{Type: banger.VMStopped, Exit: exit})
	}
	return err
}
