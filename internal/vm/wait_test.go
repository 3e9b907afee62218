package vm_test

import (
	"testing"
	"time"

	"banger"
	"banger/internal/vm"
)

// A guest that is going down, as its own init says, is not ready any more: who
// waits for it gets the next run, or hears that there is none.
func TestWaitWhileTheGuestGoesDown(t *testing.T) {
	for _, what := range []string{vm.ForReady, vm.ForBooted} {
		for _, reboot := range []bool{true, false} {
			w := newWorld(t)
			m := w.manager(nil)
			create(t, m)
			first := w.only(t)
			w.system = func(p *process) string {
				if p != first {
					return "running"
				}
				go p.end(banger.Exit{Cause: banger.ExitGuest, Reboot: reboot}) // a moment later
				return "stopping"
			}
			_, err := m.Wait(t.Context(), "web", what, 10*time.Second)
			if want := map[bool]banger.Code{false: banger.WrongState}[reboot]; banger.CodeOf(err) != want {
				t.Errorf("%s, reboot %v: %v", what, reboot, err)
			}
			if !first.over() {
				t.Errorf("%s, reboot %v: it is said to be there while it goes down", what, reboot)
			}
			if reboot && w.only(t) == first {
				t.Errorf("%s: no next run", what)
			}
		}
	}
}
