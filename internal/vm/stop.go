package vm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"banger"
)

// Stop asks the guest to power off and, when it has not within timeout, ends
// it. nil means the default; 0 ends it at once. A stopped VM stays stopped.
func (m *Manager) Stop(ctx context.Context, ref string, timeout *time.Duration, rep Reporter) (banger.VM, error) {
	return m.change(ctx, ref, endsRun, func(s *subject) error {
		defer m.enter(s.rec.ID, banger.StateStopping)()
		return s.halt(ctx, orElse(timeout, m.c.Timeouts.Stop), rep)
	})
}

// Kill ends the VM without asking its guest.
func (m *Manager) Kill(ctx context.Context, ref string, rep Reporter) (banger.VM, error) {
	return m.change(ctx, ref, endsRun, func(s *subject) error {
		if s.rec.Run == nil {
			return banger.Errorf(banger.WrongState, "%s is not running", s.rec.Spec.Name).WithRemedy("banger start %[1]s, or banger rm %[1]s", s.rec.Spec.Name)
		}
		defer m.enter(s.rec.ID, banger.StateStopping)()
		return s.halt(ctx, 0, rep)
	})
}

// Restart stops a VM if it runs, and starts it.
func (m *Manager) Restart(ctx context.Context, ref string, timeout *time.Duration, rep Reporter) (banger.VM, error) {
	return m.change(ctx, ref, endsRun, func(s *subject) error {
		if err := m.preflight(ctx, s.rec.Spec, rep); err != nil { // a VM that runs is not ended for nothing
			return err
		}
		// No instant between the two in which it seems to be stopped for good.
		defer m.enter(s.rec.ID, banger.StateStopping)()
		if err := s.halt(ctx, orElse(timeout, m.c.Timeouts.Stop), rep); err != nil {
			return err
		}
		m.enter(s.rec.ID, banger.StateStarting)
		m.forgetReboots(s.rec.ID)
		return s.upFor(ctx, rep)
	})
}

// halt records the intent, ends the guest and takes the run list down. While
// the guest is asked, a ctx that is cancelled calls it off: the VM is meant to
// run again, though a guest that has heard may still shut down. What follows
// cannot be called off.
func (s *subject) halt(ctx context.Context, timeout time.Duration, rep Reporter) error {
	if s.rec.Run == nil {
		return nil
	}
	if err := s.save(ctx, func(r *banger.Record) { r.Intent = banger.IntentStopped; r.Problem = nil }); err != nil {
		return err
	}
	exit := &banger.Exit{Cause: banger.ExitKilled, At: s.m.c.Now()}
	if l := s.life; l != nil {
		if timeout > 0 {
			s.ask(ctx, timeout, rep)
		}
		if l.over() {
			exit = &l.exit
		} else if ctx.Err() != nil {
			err := s.save(context.WithoutCancel(ctx), func(r *banger.Record) { r.Intent = banger.IntentRunning })
			return errors.Join(fmt.Errorf("stop %s: %w", s.rec.Spec.Name, context.Cause(ctx)), err)
		}
	}
	return s.down(context.WithoutCancel(ctx), s.hook(rep), exit)
}

// ask asks the guest program, else the machine's power button, and waits until
// the VMM has ended, timeout has passed or ctx ends.
func (s *subject) ask(ctx context.Context, timeout time.Duration, rep Reporter) {
	const step = "shut down"
	began := s.m.c.Now()
	rep.Step(step)
	asked, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := s.askGuest(asked, timeout/3); err != nil {
		s.m.c.Log.Warn("the guest program cannot be asked to shut down", "vm", s.rec.ID, "err", err)
		if err := s.life.proc.Shutdown(asked); err != nil {
			s.m.c.Log.Warn("the machine cannot be asked to shut down", "vm", s.rec.ID, "err", err)
		}
	}
	select {
	case <-s.life.gone:
		rep.StepDone(step, s.m.c.Now().Sub(began))
	case <-asked.Done():
		if ctx.Err() == nil {
			rep.Message("%s did not shut down within %s and is ended", s.rec.Spec.Name, timeout)
		}
	}
}

func (s *subject) askGuest(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := s.m.deaf(s.life); err != nil {
		return err
	}
	g, err := s.m.c.Guests.Reach(ctx, s.target(), s.life.gone)
	if err != nil {
		return err
	}
	return g.Shutdown(ctx, "poweroff")
}
