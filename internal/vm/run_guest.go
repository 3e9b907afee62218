package vm

import (
	"context"
	"errors"
	"fmt"
	"os"

	"banger"
	"banger/internal/guestapi"
	"banger/internal/vmm"
)

// untilReady is ctx with the limit of what a guest may take to answer.
func (m *Manager) untilReady(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, m.c.Timeouts.Ready, banger.Errorf(banger.TimedOut, "no answer within %s", m.c.Timeouts.Ready))
}

// ensureGuest waits until the guest program answers.
func ensureGuest(ctx context.Context, s *subject) error {
	st, err := s.askStatus(ctx)
	for s.background && errors.Is(err, errPaused) {
		// Nobody waits for it, and it goes on when there is room.
		if err := s.m.awaitRoom(ctx, s.life); err != nil {
			return err
		}
		st, err = s.askStatus(ctx)
	}
	if err != nil {
		return err
	}
	if st.Launch != s.rec.Run.Launch {
		return fmt.Errorf("the guest answers for launch %q, not %s", st.Launch, s.rec.Run.Launch)
	}
	// The VMM of an earlier daemon, too, has read it by now.
	if err := os.Remove(s.m.c.Paths.Initrd(s.rec.ID, s.rec.Run.Launch)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if s.rec.Run.ReadyAt.IsZero() {
		now := s.m.c.Now()
		if err := s.save(ctx, func(r *banger.Record) { r.Run.ReadyAt = now }); err != nil {
			return err
		}
	}
	s.lack(st.Problem)
	s.setReady(s.life)
	return nil
}

// askStatus asks the guest program how it is, once it answers.
func (s *subject) askStatus(ctx context.Context) (guestapi.Status, error) {
	ctx, cancel := s.m.untilReady(ctx)
	defer cancel()
	ctx, stop := s.m.untilDeaf(ctx, s.life)
	defer stop()
	g, err := s.m.c.Guests.Reach(ctx, s.target(), s.life.gone)
	if why := s.m.deaf(s.life); why != nil && !s.life.over() {
		return guestapi.Status{}, why
	}
	if err != nil {
		return guestapi.Status{}, err
	}
	return g.Status(ctx)
}

func releaseGuest(_ context.Context, s *subject) error {
	s.m.c.Guests.Drop(s.rec.ID, s.rec.Run.Launch)
	return nil
}

func (s *subject) target() Target {
	h := s.rec.Run.Handle
	t := Target{
		VM: s.rec.ID, Launch: s.rec.Run.Launch, Addr: s.rec.Run.Endpoint.SSH.String(), Key: s.rec.HostKey,
		Emulated: h != nil && h.Accelerator == "tcg",
	}
	if s.life != nil {
		t.VSock, _ = s.life.proc.(vmm.VSock) // nil where its backend has none
	}
	return t
}
