// Package fault names the points at which banger-root can be made to fail or to
// die, in builds with the tag faults only: tests build such a program. In
// every other build a point is an empty function, and nothing selects one.
package fault

import "fmt"

// Do passes the point that is called what, and does f. An error says what.
func Do(what string, f func() error) error {
	err := At(what)
	if err == nil {
		err = f()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
