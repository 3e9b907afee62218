package daemon

import (
	"context"
	"net/netip"
	"sync"

	"banger/internal/dns"
	"banger/internal/resolver"
)

// guestNames answers guests on the gateway's address, as long as there are taps: at a
// port that banger-root's rules lead their questions to.
type guestNames struct {
	mu     sync.Mutex
	server *dns.Server // nil: nowhere
	err    error       // why, if it was wanted
}

// forGuests listens if that is wanted, and returns the port, 0 for none. The gateway's
// address need not be there yet. The port is most likely the same at each start of the
// daemon: then nothing of the rules changes, and guests are answered as soon as it
// listens.
func (n *names) forGuests(wanted bool) (port uint16) {
	g := &n.guests
	g.mu.Lock()
	defer g.mu.Unlock()
	const usual = 20053 // no port that a host gives to whoever asks for any
	at := netip.AddrPortFrom(n.d.net().Gateway, usual)
	if g.server != nil && (!wanted || g.server.Addr().Addr() != at.Addr()) {
		if err := closeServer(g.server); err != nil {
			n.d.log.Warn("answer no guests any more", "err", err)
		}
		g.server = nil
	}
	if g.err = nil; wanted && g.server == nil {
		g.server, g.err = dns.ListenForGuests(context.Background(), places(at, n.d.tag), n.guestView, resolver.Host{Root: "/"}.Servers, n.d.log)
		if g.err != nil {
			n.d.log.Warn("guests are not answered when they ask for names", "err", g.err)
		}
	}
	if g.server == nil {
		return 0
	}
	return g.server.Addr().Port()
}

// guestsAt is where guests are answered, "" for nowhere, and why it is nowhere.
func (n *names) guestsAt() (at string, err error) {
	g := &n.guests
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.server != nil {
		at = g.server.Addr().String()
	}
	return at, g.err
}

// guestView is what the guest of that address may know; nil for anybody else.
func (n *names) guestView(ctx context.Context, asker netip.Addr) (*dns.Names, error) {
	s, err := n.look(ctx)
	if err != nil {
		return nil, err
	}
	return s.forGuest(asker), nil
}

// forGuest is what the guest of that address may know, of what was seen. To find out
// goes through all VMs: it is done once, and not at each question of a guest that has
// nothing else to do.
func (s seen) forGuest(asker netip.Addr) *dns.Names {
	if known, ok := s.guests.Load(asker); ok {
		return known.(*dns.Names)
	}
	known := dns.ForGuest(s.net, s.vms, asker)
	if known != nil { // so that there are as many as VMs
		s.guests.Store(asker, known)
	}
	return known
}
