package routed

import "context"

// TellHost has the host's resolver told anew, since where names are known has
// changed. Where this installation has no network there is nobody to tell.
func (a *Attacher) TellHost(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.connected() {
		a.tell(ctx, a.root)
	}
}

// Told is why the host's resolver does not know of the names; nil if it does, or
// was not to be told.
func (a *Attacher) Told() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.told
}

// tell is an attempt: no VM depends on its name.
func (a *Attacher) tell(ctx context.Context, r Root) {
	a.told = nil
	at := a.c.HostAsks()
	if !at.IsValid() {
		return
	}
	if a.told = r.Resolve(ctx, a.c.Tag, at); a.told != nil {
		a.c.Log.Warn("the host does not know of the VMs' names", "err", a.told)
	}
}
