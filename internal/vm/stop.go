package vm

import (
	"context"
	"time"

	"banger"
)

// Stop asks the guest to power off and, when it has not within timeout, ends
// it. nil means the default; 0 ends it at once. A stopped VM stays stopped.
func (m *Manager) Stop(ctx context.Context, ref string, timeout *time.Duration, rep Reporter) (banger.VM, error) {
	return m.change(ctx, ref, func(s *subject) error {
		return s.halt(ctx, orElse(timeout, m.c.Timeouts.Stop), rep)
	})
}

// Kill ends the VM without asking its guest.
func (m *Manager) Kill(ctx context.Context, ref string, rep Reporter) (banger.VM, error) {
	return m.change(ctx, ref, func(s *subject) error {
		if s.rec.Run == nil {
			return banger.Errorf(banger.WrongState, "%s is not running", s.rec.Spec.Name)
		}
		return s.halt(ctx, 0, rep)
	})
}

// Restart stops a VM if it runs, and starts it.
func (m *Manager) Restart(ctx context.Context, ref string, timeout *time.Duration, rep Reporter) (banger.VM, error) {
	return m.change(ctx, ref, func(s *subject) error {
		if err := s.halt(ctx, orElse(timeout, m.c.Timeouts.Stop), rep); err != nil {
			return err
		}
		defer m.enter(s.rec.ID, banger.StateStarting)()
		return s.up(ctx, s.hook(rep))
	})
}

// halt records the intent, ends the guest and takes the run list down. Asking
// ends with ctx; what follows does not.
func (s *subject) halt(ctx context.Context, timeout time.Duration, rep Reporter) error {
	if s.rec.Run == nil {
		return nil
	}
	defer s.m.enter(s.rec.ID, banger.StateStopping)()
	if err := s.save(ctx, func(r *banger.Record) { r.Intent = banger.IntentStopped; r.Problem = nil }); err != nil {
		return err
	}
	exit := &banger.Exit{Cause: banger.ExitKilled, At: s.m.c.Now()}
	if l := s.life; l != nil {
		if timeout > 0 && s.ask(ctx, timeout, rep) {
			exit = &l.exit
		} else if l.over() {
			exit = &l.exit
		}
	}
	return s.down(context.WithoutCancel(ctx), s.hook(rep), exit)
}

// ask asks the guest program, else the machine's power button, and reports
// whether the VMM has ended in time.
func (s *subject) ask(ctx context.Context, timeout time.Duration, rep Reporter) bool {
	const step = "shut down"
	began := s.m.c.Now()
	rep.Step(step)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := s.askGuest(ctx, timeout/3); err != nil {
		s.m.c.Log.Warn("the guest program cannot be asked to shut down", "vm", s.rec.ID, "err", err)
		if err := s.life.proc.Shutdown(ctx); err != nil {
			s.m.c.Log.Warn("the machine cannot be asked to shut down", "vm", s.rec.ID, "err", err)
		}
	}
	select {
	case <-s.life.gone:
		rep.StepDone(step, s.m.c.Now().Sub(began))
		return true
	case <-ctx.Done():
		rep.Message("%s did not shut down within %s and is ended", s.rec.Spec.Name, timeout)
		return false
	}
}

func (s *subject) askGuest(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	g, err := s.m.c.Guests.Reach(ctx, s.target(), s.life.gone)
	if err != nil {
		return err
	}
	return g.Shutdown(ctx, "poweroff")
}
