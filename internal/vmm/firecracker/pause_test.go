package firecracker_test

import (
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/vmm"
	"banger/internal/vmm/vmmtest"
)

// One that runs is not resumed: a daemon resumes each VM that it adopts, as the one
// before may have paused it.
func TestPauseAndResume(t *testing.T) {
	p := start(t, "")
	for _, q := range []vmm.Process{p, adopt(t, p.Handle())} {
		if err := q.(vmm.Pauser).Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	requests := func() string { return read(t, filepath.Join(filepath.Dir(p.Handle().Socket), "requests")) }
	if got := requests(); strings.Contains(got, "PATCH") {
		t.Errorf("it runs, and is asked %s", got)
	}
	if err := p.(vmm.Pauser).Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := adopt(t, p.Handle()).(vmm.Pauser).Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := requests(); strings.Count(got, "PATCH") != 2 || !strings.Contains(got, `PATCH /vm {"state":"Resumed"}`) {
		t.Errorf("paused, it is asked %s", got)
	}
	vmmtest.Kill(t, p)
}
