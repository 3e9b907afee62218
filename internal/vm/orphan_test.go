package vm_test

import (
	"os"
	"strings"
	"testing"

	"banger/internal/vm"
)

// Of a state directory that was deleted the VMMs are ended; one whose directory
// is still there goes on, and the next daemon adopts it.
func TestEndOrphans(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	kept, err := m.Create(t.Context(), vm.Create{Name: ptr("kept")}, quiet{})
	if err != nil {
		t.Fatal(err)
	}
	lost, err := m.Create(t.Context(), vm.Create{Name: ptr("lost")}, quiet{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(w.layout.VMDir(lost.ID)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // again: nothing is left to be done
		if err := m.EndOrphans(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if s := w.String(); strings.Contains(s, "vmm of "+string(lost.ID)) || !strings.Contains(s, "vmm of "+string(kept.ID)) {
		t.Errorf("after it:\n%s", s)
	}
	if _, err := os.Stat(w.layout.VMDir(lost.ID)); err == nil {
		t.Error("the directory was made again")
	}
	m.Close()
	next := w.manager(nil)
	if err := next.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, err := next.Wait(t.Context(), "kept", vm.ForReady, 0); err != nil || !v.Ready {
		t.Errorf("the next daemon: %+v, %v", v, err)
	}
}
