package vm

import (
	"context"

	"banger"
	"banger/internal/steps"
)

// Delete deletes a VM with all that it has; one that runs only by force. It is
// finished by the next daemon if this one is killed.
func (m *Manager) Delete(ctx context.Context, ref string, force bool, rep Reporter) (banger.VM, error) {
	return m.change(ctx, ref, force, func(s *subject) error {
		if s.life != nil && !s.life.over() && !force {
			return banger.Errorf(banger.WrongState, "%s is running", s.rec.Spec.Name).
				WithRemedy("banger stop %[1]s, or banger vm delete --force %[1]s", s.rec.Spec.Name)
		}
		defer m.enter(s.rec.ID, banger.StateStopping)()
		return s.remove(context.WithoutCancel(ctx), s.hook(rep))
	})
}

// remove takes both lists down, then the record: what could not be released
// stays recorded, and is tried again at the daemon's next start.
func (s *subject) remove(ctx context.Context, hook steps.Hook) error {
	if err := s.save(ctx, func(r *banger.Record) { r.Intent = banger.IntentDeleting }); err != nil {
		return err
	}
	if s.rec.Run != nil {
		var exit *banger.Exit
		if s.life != nil && !s.life.over() {
			exit = &banger.Exit{Cause: banger.ExitKilled, At: s.m.c.Now()}
		}
		if err := s.down(ctx, hook, exit); err != nil {
			return err
		}
	}
	if err := steps.Down(ctx, s, hook, s.exist()...); err != nil {
		return err
	}
	if err := s.m.c.Store.DeleteVM(ctx, s.rec.ID); err != nil {
		return err
	}
	s.m.forgetReboots(s.rec.ID)
	s.tell(banger.VMDeleted)
	s.m.mu.Lock()
	s.m.changed()
	s.m.mu.Unlock()
	if err := s.m.c.Images.Collect(ctx); err != nil {
		s.m.c.Log.Warn("remove images that nobody uses", "err", err) // tried again at the next start
	}
	return nil
}
