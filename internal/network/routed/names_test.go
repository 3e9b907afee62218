package routed_test

import (
	"errors"
	"net/netip"
	"testing"
)

// The host's resolver is told with each network, and when names move; that it
// cannot be told is said, and no VM minds.
func TestNames(t *testing.T) {
	w := &world{names: netip.MustParseAddrPort("127.0.0.1:42069")}
	a := w.attacher()
	a.TellNames(t.Context()) // nobody is there to be told
	if w.dials != 0 || w.told.IsValid() {
		t.Errorf("told %v without a network", w.told)
	}
	w.run(t, a, 3)
	if w.told != w.names || a.Told() != nil {
		t.Errorf("told %v, %v", w.told, a.Told())
	}
	w.names = netip.MustParseAddrPort("127.0.0.1:42070")
	a.TellNames(t.Context())
	if w.told != w.names {
		t.Errorf("told %v", w.told)
	}
	w.deaf = errors.New("no resolver")
	w.run(t, a, 4)
	if !errors.Is(a.Told(), w.deaf) {
		t.Errorf("nobody says that it could not be told: %v", a.Told())
	}
	w.names = netip.AddrPort{}
	a.TellNames(t.Context())
	if a.Told() != nil {
		t.Errorf("%v where nothing is to be told", a.Told())
	}
}
