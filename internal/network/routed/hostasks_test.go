package routed_test

import (
	"errors"
	"net/netip"
	"testing"
)

// The host's resolver is told with each network, and when names move; that it
// cannot be told is said, and no VM minds.
func TestHostAsks(t *testing.T) {
	w := &world{asks: netip.MustParseAddrPort("127.0.0.1:42069")}
	a := w.attacher()
	a.TellHost() // nobody is there to be told
	if w.dials != 0 || w.told.IsValid() {
		t.Errorf("told %v without a network", w.told)
	}
	w.run(t, a, 3)
	if err := a.Told(); err != nil || w.told != w.asks {
		t.Errorf("told %v, %v", w.told, err)
	}
	w.asks = netip.MustParseAddrPort("127.0.0.1:42070")
	a.TellHost()
	if err := a.Told(); err != nil || w.told != w.asks {
		t.Errorf("told %v, %v", w.told, err)
	}
	w.deaf = errors.New("no resolver")
	w.run(t, a, 4)
	if !errors.Is(a.Told(), w.deaf) {
		t.Errorf("nobody says that it could not be told: %v", a.Told())
	}
	w.asks = netip.AddrPort{}
	a.TellHost()
	if a.Told() != nil {
		t.Errorf("%v where nothing is to be told", a.Told())
	}
}

// A start does not wait for the host's resolver; who asks whether it was told does.
func TestStartBesideTheResolver(t *testing.T) {
	w := &world{asks: netip.MustParseAddrPort("127.0.0.1:42069"), hangs: make(chan struct{})}
	a := w.attacher()
	w.run(t, a, 3)
	w.run(t, a, 4)
	if w.told.IsValid() {
		t.Errorf("told %v by a resolver that hangs", w.told)
	}
	close(w.hangs)
	if err := a.Told(); err != nil || w.told != w.asks {
		t.Errorf("told %v, %v", w.told, err)
	}
}
