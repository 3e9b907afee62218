//go:build faults

package daemon

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
)

// insideSuffix makes, of the faults' socket, the name of the one on which the
// daemon tells a test what it has inside.
const insideSuffix = ".inside"

// tellInside answers each connection to a socket with what the daemon's process
// has, once everything that can be collected was: "goroutines N", "heap BYTES",
// then a stack per kind of goroutine. The socket ends with the process.
func tellInside(socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listen for the test: %w", err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			writeInside(c)
			c.Close()
		}
	}()
	return nil
}

func writeInside(w io.Writer) {
	debug.FreeOSMemory() // collects
	debug.FreeOSMemory() // and what finalizers let go of, and the pools' second generation
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Fprintf(w, "goroutines %d\nheap %d\n", runtime.NumGoroutine(), m.HeapAlloc)
	pprof.Lookup("goroutine").WriteTo(w, 1)
}
