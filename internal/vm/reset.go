package vm

import (
	"context"
	"fmt"

	"banger"
	"banger/internal/steps"
)

// Reset throws away all that a stopped VM has changed on its root disk: at its
// next start it is as new, with the name, address and keys that it had.
func (m *Manager) Reset(ctx context.Context, ref string, rep Reporter) (banger.VM, error) {
	return m.change(ctx, ref, keepsRun, func(s *subject) error {
		if s.rec.Run != nil {
			return banger.Errorf(banger.WrongState, "%s is running", s.rec.Spec.Name).
				WithRemedy("banger stop %[1]s, then banger vm reset %[1]s", s.rec.Spec.Name)
		}
		// Without the image there is no new disk: the old one is then kept.
		if _, err := m.c.Images.Files(ctx, s.img); err != nil {
			return err
		}
		if err := m.bestDisk(ctx, s.rec.Spec); err != nil {
			return err
		}
		defer m.enter(s.rec.ID, banger.StateStopping)()
		if err := s.save(ctx, func(r *banger.Record) { r.Intent = banger.IntentResetting; r.Problem = nil }); err != nil {
			return err
		}
		return s.reset(ctx, s.hook(rep))
	})
}

// reset finishes what Reset recorded: a daemon that was killed in the middle,
// and a start, find it here. Once the disk has begun to go there is no way back,
// so ctx does not end it. What fails stays recorded, and is the VM's problem.
func (s *subject) reset(ctx context.Context, hook steps.Hook) error {
	ctx = context.WithoutCancel(ctx)
	disk := s.m.bounded([]steps.Step[*subject]{rootDisk()})
	err := steps.Down(ctx, s, hook, disk...)
	if err == nil {
		err = steps.Up(ctx, s, hook, disk...)
	}
	if err != nil {
		err = fmt.Errorf("reset the disk of %s: %w", s.rec.Spec.Name, err)
		p := problem(err)
		if p.Remedy == "" {
			p.Remedy = fmt.Sprintf("banger vm reset %s", s.rec.Spec.Name)
		}
		if serr := s.save(ctx, func(r *banger.Record) { r.Problem = p }); serr != nil {
			s.m.c.Log.Error("record a problem", "vm", s.rec.ID, "err", serr)
		}
		return err
	}
	err = s.save(ctx, func(r *banger.Record) { r.Intent = banger.IntentStopped; r.Problem = nil })
	if err == nil {
		s.tell(banger.VMReset)
	}
	return err
}

// resetting finishes a reset that was begun, before anything else uses the disk.
func (s *subject) resetting(ctx context.Context, hook steps.Hook) error {
	if s.rec.Intent != banger.IntentResetting {
		return nil
	}
	return s.reset(ctx, hook)
}
