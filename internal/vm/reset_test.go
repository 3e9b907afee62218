package vm_test

import (
	"errors"
	"strings"
	"testing"

	"banger"
	"banger/internal/steps"
	"banger/internal/vm"
)

// A reset that fails anywhere says so, stays recorded, and is finished by the
// next reset, by a start, or by the next daemon: the VM always gets its disk.
func TestFailEveryStepOfReset(t *testing.T) {
	prepare := func(w *world, m *vm.Manager) {
		if _, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), NoStart: true}, quiet{}); err != nil {
			t.Fatal(err)
		}
	}
	reset := func(m *vm.Manager) error {
		_, err := m.Reset(t.Context(), "web", quiet{})
		return err
	}
	start := func(m *vm.Manager) error {
		_, err := m.Start(t.Context(), "web", quiet{})
		return err
	}
	var all []point
	for _, p := range points(t, func(w *world, m *vm.Manager) {
		prepare(w, w.manager(nil))
		if err := reset(m); err != nil {
			t.Error(err)
		}
	}) {
		if p.step != "root disk" {
			t.Errorf("reset touches %s", p)
		}
		all = append(all, p)
	}
	if len(all) != 4 || all[0].at != steps.BeforeRelease {
		t.Fatalf("reset has %d points: %v", len(all), all)
	}
	for _, p := range all {
		for how, finish := range map[string]func(*world, *vm.Manager) error{
			"reset": func(_ *world, m *vm.Manager) error { return reset(m) },
			"start": func(_ *world, m *vm.Manager) error { return start(m) },
			"daemon": func(w *world, m *vm.Manager) error {
				m.Close()
				next := w.manager(nil)
				return errors.Join(next.Reconcile(t.Context()), start(next))
			},
		} {
			t.Run(p.String()+", "+how, func(t *testing.T) {
				w := newWorld(t)
				prepare(w, w.manager(nil))
				before := w.String()
				m := w.manager(failAt(p))
				if err := reset(m); !errors.Is(err, errBoom) {
					t.Errorf("err = %v", err)
				}
				if v, _ := m.Show(t.Context(), "web"); v.State != banger.StateError || v.Problem.Remedy == "" {
					t.Errorf("state %s, problem %+v", v.State, v.Problem)
				}
				if err := finish(w, m); err != nil {
					t.Error(err)
				}
				if after := w.String(); how == "reset" && after != before || !strings.Contains(after, "disk ") {
					t.Errorf("before:\n%s\nafter:\n%s", before, after)
				}
			})
		}
	}
}

func TestResetWrongState(t *testing.T) {
	m := newWorld(t).manager(nil)
	create(t, m)
	if _, err := m.Reset(t.Context(), "web", quiet{}); banger.CodeOf(err) != banger.WrongState || !strings.Contains(banger.AsError(err).Remedy, "banger stop web") {
		t.Errorf("of a running VM: %v", err)
	}
	if _, err := m.Reset(t.Context(), "wbe", quiet{}); banger.CodeOf(err) != banger.NotFound {
		t.Errorf("of none: %v", err)
	}
}

// A disk in a format that the backend does not boot is not touched, and the error
// says what can be done.
func TestDiskThatIsNotBooted(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	if _, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), NoStart: true}, quiet{}); err != nil {
		t.Fatal(err)
	}
	before := w.String()
	w.format = "vmdk"
	_, err := m.Start(t.Context(), "web", quiet{})
	e := banger.AsError(err)
	if e == nil || e.Code != banger.WrongState || !strings.Contains(e.Message, "vmdk") || !strings.Contains(e.Remedy, "vm set web --backend") || !strings.Contains(e.Remedy, "vm reset web") {
		t.Errorf("%+v", e)
	}
	if got := w.String(); got != before {
		t.Errorf("%s\nbecame\n%s", before, got)
	}
}
