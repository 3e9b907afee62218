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
	a.TellHost(t.Context()) // nobody is there to be told
	if w.dials != 0 || w.told.IsValid() {
		t.Errorf("told %v without a network", w.told)
	}
	w.run(t, a, 3)
	if w.told != w.asks || a.Told() != nil {
		t.Errorf("told %v, %v", w.told, a.Told())
	}
	w.asks = netip.MustParseAddrPort("127.0.0.1:42070")
	a.TellHost(t.Context())
	if w.told != w.asks {
		t.Errorf("told %v", w.told)
	}
	w.deaf = errors.New("no resolver")
	w.run(t, a, 4)
	if !errors.Is(a.Told(), w.deaf) {
		t.Errorf("nobody says that it could not be told: %v", a.Told())
	}
	w.asks = netip.AddrPort{}
	a.TellHost(t.Context())
	if a.Told() != nil {
		t.Errorf("%v where nothing is to be told", a.Told())
	}
}
