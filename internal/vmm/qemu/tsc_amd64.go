package qemu

import "time"

// rdtsc reads the CPU's time stamp counter.
func rdtsc() uint64

// tscKHz measures the rate of the host's time stamp counter, which is the
// guest's under emulation. A guest that is told half of it lives twice as fast
// (measured), and "cpu MHz" of /proc/cpuinfo is the momentary clock rate where
// the host scales it: only a measurement will do.
func tscKHz() int {
	const window = 20 * time.Millisecond
	t0, c0 := readTSC()
	time.Sleep(window)
	t1, c1 := readTSC()
	return int(float64(c1-c0) / t1.Sub(t0).Seconds() / 1000)
}

// readTSC reads clock and counter at one moment: of several tries, the one
// that was interrupted least.
func readTSC() (at time.Time, counter uint64) {
	best := time.Hour
	for range 16 {
		before := time.Now()
		c := rdtsc()
		if took := time.Since(before); took < best {
			best, at, counter = took, before.Add(took/2), c
		}
	}
	return at, counter
}
