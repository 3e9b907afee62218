package vm_test

import (
	"strings"
	"testing"
	"time"

	"banger"
	"banger/internal/guest"
	"banger/internal/guestapi"
	"banger/internal/vm"
)

// A guest that hangs does not keep a start for ever: it ends, says why, and leaves
// nothing that runs.
func TestGuestThatHangs(t *testing.T) {
	w := newWorld(t)
	w.mute, w.patience = true, 50*time.Millisecond
	before := w.String()
	m := w.manager(nil)
	_, err := m.Create(t.Context(), vm.Create{Name: ptr("web")}, quiet{})
	told := func(what string, err error) {
		t.Helper()
		e := banger.AsError(err)
		if e == nil || e.Code != banger.TimedOut || !strings.Contains(e.Message, "no answer within 50ms (last attempt: refused)") {
			t.Errorf("%s: %+v", what, e)
		}
	}
	told("create", err)
	if after := w.String(); after != before {
		t.Errorf("left behind:\n%s", after)
	}

	stopped(t, w)
	before = w.String()
	_, err = m.Start(t.Context(), "web", quiet{})
	told("start", err)
	if after := w.String(); after != before {
		t.Errorf("left behind:\n%s", after)
	}
	if v, err := m.Show(t.Context(), "web"); err != nil || v.State != banger.StateError || !strings.Contains(v.Problem.Message, "no answer") {
		t.Errorf("shown as %+v, %v", v, err)
	}

	w.mute = false
	if _, err := m.Start(t.Context(), "web", quiet{}); err != nil {
		t.Fatal(err)
	}
	w.mute = true // it hangs later
	_, err = m.Exec(t.Context(), "web", guestapi.Exec{Argv: []string{"true"}}, guest.Streams{})
	told("exec", err)
	if v, err := m.Show(t.Context(), "web"); err != nil || v.State != banger.StateRunning {
		t.Errorf("exec ended a VM that lives: %+v, %v", v, err)
	}
}
