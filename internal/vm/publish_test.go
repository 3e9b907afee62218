package vm_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"banger"
	"banger/internal/network"
	"banger/internal/vm"
)

func published(t *testing.T, all ...string) *[]banger.Publish {
	t.Helper()
	ports := []banger.Publish{}
	for _, s := range all {
		p, err := banger.ParsePublish(s)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, p)
	}
	return &ports
}

// What makes no sense is refused before anything is written, at create as at set.
func TestPublishIsChecked(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	if _, err := m.Stop(t.Context(), "web", nil, quiet{}); err != nil {
		t.Fatal(err)
	}
	before := w.String()
	bad := func(host string, guest uint16, proto banger.Proto) *[]banger.Publish {
		return &[]banger.Publish{{Host: netip.MustParseAddrPort(host), Guest: guest, Proto: proto}}
	}
	many := []banger.Publish{}
	for i := range 65 {
		many = append(many, banger.Publish{Host: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(2000+i)), Guest: 1, Proto: banger.TCP})
	}
	for name, c := range map[string]struct {
		ports *[]banger.Publish
		code  banger.Code
	}{
		"port 0 of the host":    {bad("127.0.0.1:0", 1, banger.TCP), banger.Invalid},
		"port 0 of the guest":   {bad("127.0.0.1:2000", 0, banger.TCP), banger.Invalid},
		"no protocol":           {bad("127.0.0.1:2000", 1, ""), banger.Invalid},
		"another protocol":      {bad("127.0.0.1:2000", 1, "sctp"), banger.Invalid},
		"IPv6":                  {bad("[::1]:2000", 1, banger.TCP), banger.Invalid},
		"nothing at all":        {&[]banger.Publish{{}}, banger.Invalid},
		"twice":                 {published(t, "2000:1", "2000:2"), banger.Invalid},
		"twice, two addresses":  {published(t, "127.0.0.1:2000:1", "10.0.0.1:2000:1"), banger.Invalid},
		"too many":              {&many, banger.Invalid},
		"the host says no":      {published(t, "1:1"), banger.HostUnready},
		"one of many is no use": {published(t, "2000:1", "1:1"), banger.HostUnready},
	} {
		_, err := m.Create(t.Context(), vm.Create{Name: ptr("db"), Publish: c.ports}, quiet{})
		if banger.CodeOf(err) != c.code {
			t.Errorf("create, %s: %v", name, err)
		}
		if err := m.Check(vm.Create{Publish: c.ports}); banger.CodeOf(err) != c.code {
			t.Errorf("check, %s: %v", name, err)
		}
		if _, err := m.Set(t.Context(), "web", vm.Change{Publish: c.ports}); banger.CodeOf(err) != c.code {
			t.Errorf("set, %s: %v", name, err)
		}
	}
	if now := w.String(); now != before {
		t.Errorf("something was written:\n%s\nbefore:\n%s", now, before)
	}
}

// A port belongs to one VM, whether it runs or not.
func TestPublishIsClaimed(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	make := func(name string, ports ...string) error {
		_, err := m.Create(t.Context(), vm.Create{Name: ptr(name), NoStart: true, Publish: published(t, ports...)}, quiet{})
		return err
	}
	if err := make("web", "8080:80", "5353:53/udp"); err != nil {
		t.Fatal(err)
	}
	for _, ports := range [][]string{{"8080:1"}, {"0.0.0.0:8080:80"}, {"9000:1", "5353:1/udp"}} {
		err := make("db", ports...)
		if e := banger.AsError(err); e == nil || e.Code != banger.Exists || !strings.Contains(e.Message, "web publishes") || !strings.Contains(e.Remedy, "vm set web") {
			t.Errorf("%v: %+v", ports, e)
		}
	}
	if err := make("db", "8080:80/udp", "10.0.0.1:5353:53/udp"); err != nil {
		t.Errorf("others: %v", err)
	}
	set := func(name string, ports ...string) (banger.VM, error) {
		return m.Set(t.Context(), name, vm.Change{Publish: published(t, ports...)})
	}
	if _, err := set("db", "8080:80"); banger.CodeOf(err) != banger.Exists {
		t.Errorf("set: %v", err)
	}
	if v, err := set("web", "8080:81"); err != nil || len(v.Publish) != 1 || v.Publish[0].Guest != 81 { // its own
		t.Errorf("%+v, %v", v.Publish, err)
	}
	if v, err := set("web"); err != nil || v.Publish == nil || len(v.Publish) != 0 {
		t.Errorf("none: %+v, %v", v.Publish, err)
	}
	if v, err := set("db", "8080:80"); err != nil || !reflect.DeepEqual(v.Publish, *published(t, "8080:80")) {
		t.Errorf("given up by the other: %+v, %v", v.Publish, err)
	}
}

// Many at once want one port: one gets it.
func TestPublishIsClaimedOnce(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	g, ctx := errgroup.WithContext(context.WithoutCancel(t.Context()))
	got := make(chan string, 8)
	for i := range cap(got) {
		name := fmt.Sprintf("vm%d", i)
		g.Go(func() error {
			_, err := m.Create(ctx, vm.Create{Name: &name, NoStart: true, Publish: published(t, "8080:80")}, quiet{})
			if err == nil {
				got <- name
			} else if banger.CodeOf(err) != banger.Exists {
				return err
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil || len(got) != 1 {
		t.Errorf("%d VMs have it, %v", len(got), err)
	}
}

// In mode user a VM that runs keeps what it has.
func TestPublishOfARunningVM(t *testing.T) {
	w := newWorld(t)
	m := w.manager(nil)
	create(t, m)
	for name, c := range map[string]vm.Change{"publish": {Publish: published(t, "8080:80")}, "isolated": {Isolated: ptr(true)}} {
		if _, err := m.Set(t.Context(), "web", c); banger.CodeOf(err) != banger.WrongState || !strings.HasPrefix(banger.AsError(err).Remedy, "banger stop web") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v, err := m.Show(t.Context(), "web"); err != nil || len(v.Publish) != 0 || v.Isolated {
		t.Errorf("%+v, %v", v, err)
	}
}

// routes is a pretend network mode routed, in which ports change while a VM runs.
type routes struct {
	translated
	r *republished
}

type republished struct {
	open   map[banger.VMID][]banger.Publish
	broken error
	note   string
}

func (n routes) Attach(ctx context.Context, c network.NIC, prev *banger.Endpoint) (banger.Endpoint, error) {
	n.r.open[c.VM] = c.Publish
	return n.translated.Attach(ctx, c, prev)
}

func (n routes) Republish(_ context.Context, c network.NIC) error {
	if n.r.broken == nil {
		n.r.open[c.VM] = c.Publish
	}
	return n.r.broken
}

func (n routes) Open(id banger.VMID) (all []banger.OpenPort) {
	for _, p := range n.r.open[id] {
		all = append(all, banger.OpenPort{Publish: p, By: "bangerd", Note: n.r.note})
	}
	return all
}

// In mode routed ports change while a VM runs, all of them, some, or none; or, where
// that fails, nothing has changed, NAT neither.
func TestSetPortsOfOneThatRuns(t *testing.T) {
	w, tr := newWorld(t), &translation{now: map[banger.VMID]bool{}}
	re := &republished{open: map[banger.VMID][]banger.Publish{}}
	w.configure = func(c *vm.Config) { c.Nets = append(c.Nets, routes{translated{nets{w}, tr}, re}) }
	m := w.manager(nil)
	v, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), Network: ptr("routed"), Publish: published(t, "8080:80")}, quiet{})
	if err != nil {
		t.Fatal(err)
	}
	gone := func(all ...string) *[]banger.HostPort {
		var ports []banger.HostPort
		for _, s := range all {
			p, err := banger.ParseHostPort(s)
			if err != nil {
				t.Fatal(err)
			}
			ports = append(ports, p)
		}
		return &ports
	}
	check := func(what string, now banger.VM, err error, want ...string) {
		t.Helper()
		var open []banger.Publish
		for _, p := range now.OpenPorts {
			open = append(open, p.Publish)
		}
		ports := *published(t, want...)
		if err != nil || now.PID != v.PID || !slices.Equal(now.Publish, ports) || !slices.Equal(re.open[v.ID], ports) || !slices.Equal(open, ports) {
			t.Errorf("%s: %v, open %v, on the host %v, %v; want %v", what, now.Publish, open, re.open[v.ID], err, ports)
		}
	}
	set := func(what string, c vm.Change, want ...string) {
		t.Helper()
		now, err := m.Set(t.Context(), "web", c)
		check(what, now, err, want...)
	}
	check("created", v, nil, "8080:80")
	set("one more", vm.Change{AddPublish: published(t, "0.0.0.0:5353:53/udp")}, "8080:80", "0.0.0.0:5353:53/udp")
	set("one less", vm.Change{Unpublish: gone("8080")}, "0.0.0.0:5353:53/udp")
	set("another", vm.Change{Unpublish: gone("5353/udp"), AddPublish: published(t, "5353:54/udp")}, "5353:54/udp")
	set("all", vm.Change{Publish: published(t, "1000:1", "2000:2")}, "1000:1", "2000:2")
	for what, c := range map[string]struct {
		change vm.Change
		code   banger.Code
	}{
		"not published": {vm.Change{Unpublish: gone("1000/udp")}, banger.NotFound},
		"twice":         {vm.Change{AddPublish: published(t, "1000:3")}, banger.Invalid},
		"with a stop":   {vm.Change{Unpublish: gone("1000"), CPUs: ptr(1)}, banger.WrongState},
	} {
		_, err := m.Set(t.Context(), "web", c.change)
		now, serr := m.Show(t.Context(), "web")
		if check(what, now, serr, "1000:1", "2000:2"); banger.CodeOf(err) != c.code {
			t.Errorf("%s: %v", what, err)
		}
	}
	re.broken = errBoom
	_, err = m.Set(t.Context(), "web", vm.Change{Publish: published(t), NAT: ptr(false)})
	now, serr := m.Show(t.Context(), "web")
	if check("failed", now, serr, "1000:1", "2000:2"); !errors.Is(err, errBoom) || now.NAT != banger.NATWanted || !tr.now[v.ID] {
		t.Errorf("failed: %v, NAT %s, on the host %v", err, now.NAT, tr.now)
	}
	re.broken = nil
	set("none", vm.Change{Publish: published(t)})
	if now, err := m.Stop(t.Context(), "web", nil, quiet{}); err != nil || now.OpenPorts != nil {
		t.Errorf("stopped: %v, %v", now.OpenPorts, err)
	}
	if now, err := m.Set(t.Context(), "web", vm.Change{AddPublish: published(t, "8080:80")}); err != nil || len(now.Publish) != 1 {
		t.Errorf("set of a stopped one: %v, %v", now.Publish, err)
	}
	re.note = "no socket; modprobe it"
	h := &heard{}
	if _, err := m.Start(t.Context(), "web", h); err != nil || len(h.lines) != 1 || !strings.Contains(h.lines[0], re.note) {
		t.Errorf("whoever starts it is told %q, %v", h.lines, err)
	}
}
