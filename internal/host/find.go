package host

import "banger"

// A Wanted says how to know a process that an earlier daemon launched.
type Wanted struct {
	ID  ProcID                   // PID 0: it was never recorded
	Arg string                   // a whole element of its argv, which no other launch has
	UID int                      // of the daemon
	Is  func(argv []string) bool // whether that is its argv, and not that of a grep for one
}

// Find returns the living process that w wants, its identity proved: by PID and
// start time where they are known, and in any case by its argv. ErrGone if there
// is none; after another error nobody knows whether it lives.
func Find(w Wanted) (Proc, error) {
	if w.ID.PID != 0 {
		p, err := Inspect(w.ID)
		if err == nil && !w.Is(p.Argv) {
			return Proc{}, ErrGone
		}
		return p, err
	}
	all, err := FindByArg(w.Arg)
	if err != nil {
		return Proc{}, err
	}
	for _, p := range all {
		// Anybody may give a process such an argv; root's daemon has users of
		// its own for its VMs.
		own := p.UID == w.UID || w.UID == 0 && p.UID >= banger.FirstOwner && p.UID <= banger.LastOwner
		if w.Is(p.Argv) && own {
			return p, nil
		}
	}
	return Proc{}, ErrGone
}
