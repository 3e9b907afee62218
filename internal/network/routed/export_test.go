package routed

// Leaving is how many VMs a takes away, or is about to.
func Leaving(a *Attacher) (n int) {
	a.down.Range(func(any, any) bool {
		n++
		return true
	})
	return n
}
