package routed_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"banger/internal/network/routed"
)

// VMs that end while banger-root takes one away go together: where a request takes
// seconds, the last of several would else come to its deadline.
func TestTogether(t *testing.T) {
	w := &world{}
	a := w.attacher()
	for n := byte(3); n <= 6; n++ {
		w.run(t, a, n)
	}
	var others sync.WaitGroup
	sets := 0
	w.during = func() {
		if sets++; sets > 1 {
			return
		}
		for n := byte(4); n <= 6; n++ {
			others.Go(func() {
				if err := a.Detach(t.Context(), nic(n)); err != nil {
					t.Error(err)
				}
			})
		}
		for end := time.Now().Add(20 * time.Second); routed.Leaving(a) < 4; runtime.Gosched() {
			if time.Now().After(end) {
				t.Error("a VM is not known to leave while banger-root is at work")
				return
			}
		}
	}
	detach(t, a, 3)
	others.Wait()
	w.want(t, "all end")
	if sets != 2 {
		t.Errorf("banger-root was asked %d times, and twice would do", sets)
	}
}
