package link

// NewLimited is New with limits of the test's own.
func NewLimited(uid, flows, fresh, burst uint32) *Router {
	r := New(uid)
	r.limits = limits{flows, fresh, burst}
	return r
}

// Mark is what sockets of a uid are marked with.
var Mark = mark
