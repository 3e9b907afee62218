// Package bundle makes, finds, reads and checks runtime bundles: directories
// of kernel, initramfs, modules and base image with a manifest that names each
// by its digest. It registers nothing and boots nothing; a bundle is built
// aside and renamed into place, never changed where it lies.
package bundle

import "time"

// A Reporter hears what an operation that takes long is doing. Its methods are
// called from one goroutine at a time and must not block for long.
type Reporter interface {
	Step(name string)                            // name began
	StepDone(name string, elapsed time.Duration) // name ended well
	Progress(step string, done, total int64)     // bytes; total 0: unknown
	Message(format string, args ...any)          // a line for the user
}

// timed runs one named step and reports its beginning and its good end.
func timed(rep Reporter, name string, do func() error) error {
	began := time.Now()
	rep.Step(name)
	if err := do(); err != nil {
		return err
	}
	rep.StepDone(name, time.Since(began))
	return nil
}
