package vmcmd_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
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

// Where a banger-root can be started without a question, the daemon is told so, and it is
// started if it says that it would use it; where that was in vain, it is told that.
func TestOffersRoot(t *testing.T) {
	needs := operation{err: banger.Errorf(banger.NeedsRoot, "no banger-root")}
	for name, c := range map[string]struct {
		may   bool
		try   error
		first any
		want  []string // of the root field of each request
	}{
		"it cannot be had":  {first: operation{result: web}, want: []string{""}},
		"nobody needs it":   {may: true, first: operation{result: web}, want: []string{"offered"}},
		"it is had":         {may: true, first: needs, want: []string{"offered", "offered"}},
		"sudo wants to ask": {may: true, try: errors.New("a password is required"), first: needs, want: []string{"offered", "refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession(t, map[string]any{api.VMCreate: c.first})
			s.mayHaveRoot = c.may
			s.tryRoot = func(context.Context, string) error {
				s.answer(api.VMCreate, operation{result: web})
				return c.try
			}
			if err := s.run(t.Context(), "vm", "create"); err != nil {
				t.Fatal(err)
			}
			var got []string
			for line := range strings.Lines(s.requests()) {
				var r api.CreateRequest
				if err := json.Unmarshal([]byte(strings.TrimPrefix(line, api.VMCreate)), &r); err != nil {
					t.Fatal(err)
				}
				got = append(got, r.Root.Value)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("asked with %q, want %q", got, c.want)
			}
		})
	}
}
