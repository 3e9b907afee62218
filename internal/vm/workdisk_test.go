package vm_test

import (
	"regexp"
	"strings"
	"testing"

	"banger"
	"banger/internal/vm"
)

// workLines are the lines of the world that tell of work disks.
func workLines(w *world) (lines []string) {
	for line := range strings.Lines(w.String()) {
		if strings.HasPrefix(line, "work disk") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// A reset throws away the root disk; what is in /root is on another. Its file
// system keeps its UUID, which is nobody else's.
func TestResetKeepsTheWorkDisk(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	for _, name := range []string{"web", "db"} {
		if _, err := m.Create(t.Context(), vm.Create{Name: ptr(name), NoStart: true}, quiet{}); err != nil {
			t.Fatal(err)
		}
	}
	before := workLines(w)
	uuid := regexp.MustCompile(`^work disk [0-9a-f]{8} [0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	if len(before) != 2 || !uuid.MatchString(before[0]) || !uuid.MatchString(before[1]) || before[0][20:] == before[1][20:] {
		t.Fatalf("work disks: %q", before)
	}
	v, err := m.Set(t.Context(), "web", vm.Change{WorkDisk: ptr(int64(larger))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Reset(t.Context(), "web", quiet{}); err != nil {
		t.Fatal(err)
	}
	if after := workLines(w); strings.Join(after, "\n") != strings.Join(before, "\n") || w.works[v.ID] != larger {
		t.Errorf("after the reset: %q, %d bytes", after, w.works[v.ID])
	}
	if _, err := m.Start(t.Context(), "web", quiet{}); err != nil {
		t.Error(err)
	}
	if _, err := m.Set(t.Context(), "web", vm.Change{WorkDisk: ptr(int64(2 * larger))}); banger.CodeOf(err) != banger.WrongState || w.works[v.ID] != larger {
		t.Errorf("to grow it while it runs: %v, %d bytes", err, w.works[v.ID])
	}
}

// A VM without a work disk has none, in any of its life.
func TestNoWorkDisk(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	v, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), WorkDisk: ptr(int64(0))}, quiet{})
	if err != nil || v.WorkDisk != 0 || len(workLines(w)) != 0 {
		t.Fatalf("%+v, %v\n%s", v, err, w)
	}
	if _, err := m.Kill(t.Context(), "web", quiet{}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Set(t.Context(), "web", vm.Change{WorkDisk: ptr(int64(larger))}); banger.CodeOf(err) != banger.WrongState || banger.AsError(err).Remedy == "" {
		t.Errorf("to give it one: %v", err)
	}
	if _, err := m.Set(t.Context(), "web", vm.Change{WorkDisk: ptr(int64(0)), Disk: ptr(int64(larger))}); err != nil {
		t.Error(err)
	}
	if _, err := m.Reset(t.Context(), "web", quiet{}); err != nil {
		t.Error(err)
	}
	if _, err := m.Start(t.Context(), "web", quiet{}); err != nil || len(workLines(w)) != 0 {
		t.Errorf("%v\n%s", err, w)
	}
}

// A size is rounded up, and held against what was before.
func TestWorkDiskSizes(t *testing.T) {
	m := newWorld(t).manager(nil)
	v, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), WorkDisk: ptr(int64(1<<30 + 1)), NoStart: true}, quiet{})
	if err != nil || v.WorkDisk != 1<<30+1<<20 {
		t.Fatalf("%d bytes, %v", v.WorkDisk, err)
	}
	for _, n := range []int64{-1, 0, 1, 64 << 20, 1 << 30, 8<<40 + 1, 1<<63 - 1} {
		if _, err := m.Set(t.Context(), "web", vm.Change{WorkDisk: ptr(n)}); banger.CodeOf(err) != banger.Invalid || banger.AsError(err).Remedy == "" {
			t.Errorf("%d: %v", n, err)
		}
	}
	for _, n := range []int64{1<<30 + 1, 2 << 30, 8 << 40} {
		if v, err := m.Set(t.Context(), "web", vm.Change{WorkDisk: ptr(n)}); err != nil || v.WorkDisk < n || v.WorkDisk >= n+1<<20 {
			t.Errorf("%d: %d, %v", n, v.WorkDisk, err)
		}
	}
	for _, n := range []int64{-1, 1, 64<<20 - 1, 8<<40 + 1, 1<<63 - 1} {
		if _, err := m.Create(t.Context(), vm.Create{WorkDisk: ptr(n), NoStart: true}, quiet{}); banger.CodeOf(err) != banger.Invalid {
			t.Errorf("create with %d: %v", n, err)
		}
	}
}

// A work disk that is gone keeps the VM from starting: it would have another /root.
func TestWorkDiskIsGone(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	v, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), NoStart: true}, quiet{})
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	delete(w.works, v.ID)
	w.mu.Unlock()
	if _, err := m.Start(t.Context(), "web", quiet{}); banger.CodeOf(err) != banger.NotFound {
		t.Errorf("err = %v", err)
	}
}

// A guest that could not mount its work disk runs; whoever starts the VM is told,
// and whoever looks at it, also after the daemon.
func TestGuestLacksSomething(t *testing.T) {
	w := newWorld(t)
	w.lack = "its work disk is not mounted: \x1b[31m" + strings.Repeat("x", 1000)
	m := w.manager(nil)
	var said strings.Builder
	if _, err := m.Create(t.Context(), vm.Create{Name: ptr("web")}, listener{said: &said}); err != nil {
		t.Fatal(err)
	}
	if got := said.String(); !strings.Contains(got, "web runs, but its work disk is not mounted: ?[31mxxx") || len(got) > 400 {
		t.Errorf("said %q", got)
	}
	for range 2 {
		v, err := m.Show(t.Context(), "web")
		if err != nil || !v.Ready || v.Problem == nil || !strings.HasPrefix(v.Problem.Message, "its work disk") || v.Problem.Remedy == "" {
			t.Errorf("%+v, %v", v, err)
		}
		m.Close()
		m = w.manager(nil)
		if err := m.Reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait(t, m, "ready")
	}
	w.lack = ""
	if v, err := m.Restart(t.Context(), "web", nil, quiet{}); err != nil || v.Problem != nil {
		t.Errorf("%+v, %v", v.Problem, err)
	}
}
