package vm_test

import (
	"testing"

	"banger"
	"banger/internal/vm"
)

// What a VM needs and cannot have is said before anything is touched: no row is
// written, and a VM that runs is not ended for a restart that cannot come.
func TestNetworkThatCannotBeHad(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	w.offline = banger.Errorf(banger.NeedsRoot, "no banger-root").WithRemedy("start it")
	before := w.String()
	tries := map[string]func() error{
		"create": func() error {
			_, err := m.Create(t.Context(), vm.Create{Name: ptr("other")}, quiet{})
			return err
		},
		"restart": func() error { _, err := m.Restart(t.Context(), "web", nil, quiet{}); return err },
	}
	for name, try := range tries {
		if err := try(); banger.CodeOf(err) != banger.NeedsRoot || banger.AsError(err).Remedy == "" {
			t.Errorf("%s: %v", name, err)
		}
		if after := w.String(); after != before {
			t.Errorf("%s changed the world:\n%s\nto\n%s", name, before, after)
		}
	}
	if _, err := m.Stop(t.Context(), "web", nil, quiet{}); err != nil {
		t.Fatal(err)
	}
	before = w.String()
	if _, err := m.Start(t.Context(), "web", quiet{}); banger.CodeOf(err) != banger.NeedsRoot {
		t.Errorf("start: %v", err)
	}
	if after := w.String(); after != before {
		t.Errorf("start changed the world:\n%s\nto\n%s", before, after)
	}
	if _, err := m.Create(t.Context(), vm.Create{Name: ptr("later"), NoStart: true}, quiet{}); err != nil {
		t.Errorf("create without a start: %v", err)
	}
}
