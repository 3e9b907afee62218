package e2e

import (
	"fmt"
	"sync"
	"testing"
)

// boots is how many boots must not hang; atOnce how many run at a time. Under
// emulation one in ten hung, before the guest was told its clock's rate.
const (
	boots  = 40
	atOnce = 2
)

func TestNoBootHangs(t *testing.T) {
	b := common(t)
	work := make(chan int)
	var wait sync.WaitGroup
	for range atOnce {
		wait.Go(func() {
			for i := range work {
				name := fmt.Sprintf("boot-%d", i)
				if r := b.run(append([]string{"run", "--rm", "--name", name}, cheap("--", "true")...)...); r.code != 0 {
					t.Errorf("boot %d: exit code %d\n%s", i, r.code, r.err)
				}
			}
		})
	}
	for i := range boots {
		work <- i
	}
	close(work)
	wait.Wait()
}
