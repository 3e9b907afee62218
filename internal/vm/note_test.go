package vm_test

import (
	"fmt"
	"strings"
	"testing"

	"banger/internal/vm"
)

// Whoever starts a VM is told what its network is not; so is whoever looks at it.
func TestNoteOfTheNetwork(t *testing.T) {
	w := newWorld(t)
	w.note = "the worse one: passt failed"
	m := w.manager(nil)
	for what, begin := range map[string]func(vm.Reporter) error{
		"create": func(rep vm.Reporter) error {
			return second(m.Create(t.Context(), vm.Create{Name: ptr("web")}, rep))
		},
		"restart": func(rep vm.Reporter) error {
			stopped := second(m.Create(t.Context(), vm.Create{Name: ptr("db")}, quiet{}))
			if stopped != nil {
				return stopped
			}
			return second(m.Restart(t.Context(), "db", nil, rep))
		},
		"start": func(rep vm.Reporter) error {
			stopped := second(m.Create(t.Context(), vm.Create{Name: ptr("idle"), NoStart: true}, quiet{}))
			if stopped != nil {
				return stopped
			}
			return second(m.Start(t.Context(), "idle", rep))
		},
	} {
		var said strings.Builder
		if err := begin(listener{said: &said}); err != nil {
			t.Fatal(err)
		}
		if strings.Count(said.String(), w.note) != 1 {
			t.Errorf("%s says %q", what, said.String())
		}
	}
	for _, name := range []string{"web", "db", "idle"} {
		if v, err := m.Show(t.Context(), name); err != nil || v.StackNote != w.note {
			t.Errorf("%s shows %q, %v", name, v.StackNote, err)
		}
	}
	if v, err := m.Stop(t.Context(), "web", nil, quiet{}); err != nil || v.StackNote != "" {
		t.Errorf("stopped: %q, %v", v.StackNote, err)
	}
}

// A listener keeps what is said for people.
type listener struct {
	quiet
	said *strings.Builder
}

func (l listener) Message(format string, a ...any) { fmt.Fprintf(l.said, format+"\n", a...) }
