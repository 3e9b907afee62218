package vm_test

import (
	"os"
	"strings"
	"testing"

	"banger"
	"banger/internal/steps"
	"banger/internal/vm"
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

// The logs of a VM that runs are cut, each for itself; what was said last stays.
func TestCutLogs(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	if _, err := m.Create(t.Context(), vm.Create{Name: ptr("rests"), NoStart: true}, quiet{}); err != nil {
		t.Fatal(err)
	}
	m.CutLogs() // none yet
	long := strings.Repeat("a line of a log that nobody reads\n", 2000)
	paths := map[string][2]string{}
	for _, name := range []string{"web", "rests"} {
		v, err := m.Show(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		paths[name] = [2]string{v.SerialLog, v.VMMLog}
		w.console(v.SerialLog, long+"the last words\n")
		w.console(v.VMMLog, "short\n")
	}
	size := func(path string) int64 {
		t.Helper()
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return st.Size()
	}
	m.CutLogs()
	serial, vmm := paths["web"][0], paths["web"][1]
	if n := size(serial); n > 8<<10 {
		t.Errorf("%d bytes are left of %d, 8 KiB are allowed", n, len(long))
	}
	if b, err := os.ReadFile(serial); err != nil || !strings.HasSuffix(string(b), "the last words\n") {
		t.Errorf("the last words are gone: %v", err)
	}
	if n := size(vmm); n != int64(len("short\n")) {
		t.Errorf("the short log has %d bytes", n)
	}
	if n := size(paths["rests"][0]); n < int64(len(long)) {
		t.Error("the log of a VM that nobody writes was cut")
	}
	w.console(vmm, long)
	m.CutLogs()
	if n := size(vmm); n > 8<<10 {
		t.Errorf("the VMM's log has %d bytes", n)
	}
}
