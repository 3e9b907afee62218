package link_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/network"
	"banger/internal/network/link"
	"banger/test/netns"
)

// BenchmarkApply is what a network of many VMs costs to look at, and to give one
// VM to.
func BenchmarkApply(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("SKIPPED: network namespaces with taps need root; run as root to measure this")
	}
	for _, n := range []int{10, 50, 200} {
		for _, what := range []string{"unchanged", "changed"} {
			b.Run(fmt.Sprintf("%s/%d", what, n), func(b *testing.B) {
				if err := netns.Run(func() error { return applyOften(b, n, what == "changed") }); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// applyOften takes the last of n taps away before each Apply that is measured, if
// something is to be changed.
func applyOften(b *testing.B, n int, change bool) error {
	r := link.New(uid)
	var all []network.Tap
	for i := range n {
		all = append(all, nat(tap(i)))
	}
	if _, err := r.Apply(config(all...)); err != nil {
		return err
	}
	var cpu time.Duration // of the whole process: on a busy machine it says more than the clock
	b.ResetTimer()
	for range b.N {
		if change {
			b.StopTimer()
			if _, err := r.Apply(config(all[:n-1]...)); err != nil {
				return err
			}
			b.StartTimer()
		}
		began := used()
		changes, err := r.Apply(config(all...))
		cpu += used() - began
		if err != nil {
			return err
		}
		if change != (len(changes) > 0) {
			return fmt.Errorf("changed %v", changes)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(cpu)/float64(b.N), "cpu-ns/op")
	_, err := r.Apply(config())
	return err
}

// used is the CPU time of this process.
func used() time.Duration {
	var u unix.Rusage
	must(0, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
