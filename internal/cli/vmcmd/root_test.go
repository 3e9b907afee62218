package vmcmd_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"banger"
	"banger/internal/api"
)

// What needs banger-root is asked for again once that was started; a user who
// does not give a password is told what sudo said.
func TestNeedsRoot(t *testing.T) {
	needs := operation{err: banger.Errorf(banger.NeedsRoot, "no banger-root")}
	s := newSession(t, map[string]any{api.VMStart: needs})
	var why string
	s.startRoot = func(_ context.Context, w string) error {
		why = w
		s.answer(api.VMStart, operation{result: web})
		return nil
	}
	if err := s.run(t.Context(), "vm", "start", "web"); err != nil {
		t.Fatal(err)
	}
	if why != "no banger-root" || strings.Count(s.requests(), "vm.start") != 2 {
		t.Errorf("why %q; asked:\n%s", why, s.requests())
	}

	s = newSession(t, map[string]any{api.VMStart: needs})
	refused := errors.New("no password")
	s.startRoot = func(context.Context, string) error { return refused }
	if err := s.run(t.Context(), "vm", "start", "web"); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	if strings.Count(s.requests(), "vm.start") != 1 {
		t.Errorf("asked:\n%s", s.requests())
	}
}
