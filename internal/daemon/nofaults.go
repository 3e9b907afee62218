//go:build !faults

package daemon

import "banger/internal/vm"

// instrumented returns c as it is: what tests break a daemon with is in no
// program that is shipped.
func instrumented(c vm.Config) vm.Config { return c }
