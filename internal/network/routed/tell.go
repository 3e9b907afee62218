package routed

import "context"

// A teller tells the host's resolver of the names, one telling after the other, while
// who asked for it goes on: no VM depends on its name, and a start waits longer for the
// resolver and its bus than for all the rest of its network.
type teller struct {
	last chan struct{} // closed when the last telling is over; nil: there was none. Guarded by mu
	why  error         // where the last could not be told; guarded by mu
}

// tell has the host's resolver told by way of r. It is called with mu held.
func (a *Attacher) tell(r Root) {
	at := a.c.HostAsks()
	before, done := a.teller.last, make(chan struct{})
	a.teller.last = done
	go func() {
		defer close(done)
		if before != nil {
			<-before
		}
		var err error
		if at.IsValid() {
			err = r.Resolve(context.Background(), a.c.Tag, at) // ends with r
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.root != r { // hung up: with it went what was told
			return
		}
		if a.teller.why = err; err != nil {
			a.c.Log.Warn("the host does not know of the VMs' names", "err", err)
		}
	}()
}

// TellHost has the host's resolver told anew, since where names are known has
// changed. Where this installation has no network there is nobody to tell.
func (a *Attacher) TellHost() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.connected() {
		a.tell(a.root)
	}
}

// Told is why the host's resolver does not know of the names; nil if it does, or
// was not to be told. It waits for a telling that is under way.
func (a *Attacher) Told() error {
	a.toldAll()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.teller.why
}

// toldAll waits for the last telling. It is called without mu.
func (a *Attacher) toldAll() {
	a.mu.Lock()
	last := a.teller.last
	a.mu.Unlock()
	if last != nil {
		<-last
	}
}
