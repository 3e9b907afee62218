//go:build !faults

package fault

// At does nothing.
func At(string) error { return nil }
