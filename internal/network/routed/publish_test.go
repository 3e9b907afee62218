package routed_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
)

func publish(at string, port, guest uint16) banger.Publish {
	return banger.Publish{Host: netip.AddrPortFrom(netip.MustParseAddr(at), port), Guest: guest, Proto: banger.TCP}
}

// free is a port that nobody has.
func free(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

func listens(p banger.Publish) bool {
	c, err := net.Dial("tcp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p.Host.Port()).String())
	if err == nil {
		c.Close()
	}
	return err == nil || errors.Is(err, unix.ECONNRESET)
}

// Ports change while a VM runs, at once, or not at all. banger-root hears of those that
// others than the host reach, and of nothing else.
func TestRepublish(t *testing.T) {
	w := &world{}
	a := w.attacher()
	defer a.Close()
	n := nic(3)
	inside, outside, more := publish("127.0.0.1", free(t), 80), publish("0.0.0.0", free(t), 81), publish("0.0.0.0", free(t), 82)
	n.Publish = []banger.Publish{inside}
	w.records = []network.Tap{tap(3)}
	if _, err := a.Attach(t.Context(), n, nil); err != nil {
		t.Fatal(err)
	}
	check := func(what string, led []uint16, open ...banger.OpenPort) {
		t.Helper()
		now := a.Open(n.VM)
		for _, p := range open {
			if i := slices.Index(now, p); i < 0 || !listens(p.Publish) {
				t.Errorf("%s: %+v is not among %+v, or nobody listens", what, p, now)
			}
		}
		if len(now) != len(open) || !slices.Equal(w.led, led) {
			t.Errorf("%s: %+v are open, want %+v; the kernel leads %v, want %v", what, now, open, w.led, led)
		}
	}
	set := func(ports ...banger.Publish) error {
		n.Publish = ports
		return a.Republish(t.Context(), n)
	}
	by := func(p banger.Publish, who string) banger.OpenPort { return banger.OpenPort{Publish: p, By: who} }
	check("attached", nil, by(inside, "bangerd"))
	if err := set(inside, outside); err != nil {
		t.Error(err)
	}
	check("one more", []uint16{81}, by(inside, "bangerd"), by(outside, "kernel"))
	elsewhere := outside
	elsewhere.Guest = 90
	if err := set(inside, elsewhere, more); err != nil {
		t.Error(err)
	}
	check("to another port", map[bool][]uint16{true: {90, 82}, false: {82, 90}}[elsewhere.Host.Port() < more.Host.Port()],
		by(inside, "bangerd"), by(elsewhere, "kernel"), by(more, "kernel"))
	if err := set(outside); err != nil {
		t.Error(err)
	}
	check("others gone", []uint16{81}, by(outside, "kernel"))
	sets := w.sets
	if err := set(outside, inside); err != nil {
		t.Error(err)
	}
	if err := set(outside); err != nil {
		t.Error(err)
	}
	if w.sets != sets {
		t.Errorf("asked %d times over a port of the loopback", w.sets-sets)
	}

	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := set(inside, publish("127.0.0.1", taken.Addr().(*net.TCPAddr).AddrPort().Port(), 83)); banger.CodeOf(err) != banger.HostUnready {
		t.Errorf("a port that is taken: %v", err)
	}
	check("one was taken", []uint16{81}, by(outside, "kernel"))

	// Without banger-root those of the host can be had.
	w.die()
	if err := set(outside, more); banger.CodeOf(err) != banger.NeedsRoot {
		t.Errorf("without banger-root: %v", err)
	}
	check("without banger-root", []uint16{81}, by(outside, "kernel"))
	w.absent = false

	// A kernel, or a banger-root, that leads no ports is told, and bangerd leads them.
	w.noPorts = banger.Errorf(banger.HostUnready, "no socket").WithRemedy("modprobe it")
	if err := set(outside, more); err != nil {
		t.Error(err)
	}
	note := func(p banger.Publish, n string) banger.OpenPort {
		return banger.OpenPort{Publish: p, By: "bangerd", Note: n}
	}
	check("without the kernel", nil, note(outside, "no socket; modprobe it"), note(more, "no socket; modprobe it"))
	w.noPorts, w.old = nil, banger.Errorf(banger.HostUnready, "an earlier banger")
	if err := set(outside); err != nil {
		t.Error(err)
	}
	if w.led == nil {
		t.Error("it is not asked to lead one") // which it did not hear of
	}
	if now := a.Open(n.VM); len(now) != 1 || !strings.HasPrefix(now[0].Note, "an earlier banger") || now[0].By != "bangerd" {
		t.Errorf("with an earlier banger-root: %+v", now)
	}
	w.old, w.records = nil, nil
	if err := a.Detach(t.Context(), n); err != nil || listens(outside) || len(a.Open(n.VM)) > 0 {
		t.Errorf("detached: %v, %v", err, a.Open(n.VM))
	}
}

// With only ports of the loopback banger-root is not asked at all.
func TestRepublishOnTheLoopback(t *testing.T) {
	w := &world{}
	a := w.attacher()
	defer a.Close()
	n := nic(3)
	w.records = []network.Tap{tap(3)}
	if _, err := a.Attach(t.Context(), n, nil); err != nil {
		t.Fatal(err)
	}
	w.die()
	n.Publish = []banger.Publish{publish("127.0.0.1", free(t), 80)}
	if err := a.Republish(t.Context(), n); err != nil || !listens(n.Publish[0]) {
		t.Errorf("%v", err)
	}
	n.Publish = nil
	if err := a.Republish(t.Context(), n); err != nil || len(a.Open(n.VM)) > 0 {
		t.Errorf("%v", err)
	}
}
