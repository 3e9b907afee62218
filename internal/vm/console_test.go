package vm_test

import (
	"strings"
	"testing"

	"banger"
	"banger/internal/steps"
)

// A start that fails shows what this run's console said, not an earlier one's.
func TestConsoleOfThisRun(t *testing.T) {
	const earlier = "words of an earlier run\n"
	for name, c := range map[string]struct {
		fails point
		dies  bool // the VMM, before its guest is ready
		says  string
	}{
		"before the launch":     {fails: point{"network", steps.AfterEnsure}},
		"with a mute VMM":       {fails: point{"guest", steps.BeforeEnsure}},
		"with words of its own": {dies: true, says: "Kernel panic"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			stopped(t, w)
			m := w.manager(failAt(c.fails))
			v, err := m.Show(t.Context(), "web")
			if err != nil {
				t.Fatal(err)
			}
			w.console(v.SerialLog, earlier)
			w.early, w.mute = c.dies, c.dies
			_, err = m.Start(t.Context(), "web", quiet{})
			if err == nil {
				t.Fatal("it started")
			}
			e := banger.AsError(err)
			if strings.Contains(e.Message, "earlier run") {
				t.Errorf("shows another run: %s", e.Message)
			}
			if c.says == "" && strings.Contains(e.Message, "console") {
				t.Errorf("shows a console that said nothing: %s", e.Message)
			}
			if !strings.Contains(e.Message, c.says) {
				t.Errorf("no %q in %s", c.says, e.Message)
			}
		})
	}
}
