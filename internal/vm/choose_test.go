package vm_test

import (
	"context"
	"strings"
	"testing"

	"banger"
	"banger/internal/network"
	"banger/internal/vm"
	"banger/internal/vmm"
)

// A choosy backend needs a tap, and a host that it may not like.
type choosy struct {
	backend
	unusable *error
}

func (choosy) Name() string { return "choosy" }
func (c choosy) Probe(context.Context) (vmm.Caps, error) {
	return vmm.Caps{Formats: []banger.DiskFormat{banger.FormatQCOW2}, Accelerator: "kvm", Why: "pretend", NeedsTap: true}, *c.unusable
}

// taps is network mode routed, which publishes nothing.
type taps struct {
	nets
	unusable *error
}

func (taps) Mode() banger.NetworkMode      { return banger.NetworkRouted }
func (n taps) Probe(context.Context) error { return *n.unusable }
func (taps) CheckPublish([]banger.Publish, bool) error {
	return banger.Errorf(banger.Invalid, "routed VMs publish nothing").WithRemedy("none")
}

// choosyWorld has a choosy backend before the other.
func choosyWorld(t *testing.T) (w *world, noBackend, noTaps *error) {
	t.Helper()
	w = newWorld(t)
	noBackend, noTaps = new(error), new(error)
	w.configure = func(c *vm.Config) {
		c.Backends = append([]vmm.Backend{choosy{backend{w}, noBackend}}, c.Backends...)
		c.Nets = append(c.Nets, network.Attacher(taps{nets{w}, noTaps}))
	}
	return w, noBackend, noTaps
}

func TestChooseBackend(t *testing.T) {
	broken := banger.Errorf(banger.HostUnready, "no KVM").WithRemedy("get one")
	port := []banger.Publish{{Guest: 80}}
	for name, c := range map[string]struct {
		ask               vm.Create
		noBackend, noTaps error
		want              string // backend and network
		code              banger.Code
		says              string
	}{
		"both work":                {want: "choosy routed"},
		"no KVM":                   {noBackend: broken, want: "pretend routed"},
		"no taps":                  {noTaps: broken, want: "pretend user"},
		"a network of its own":     {ask: vm.Create{Network: ptr("user")}, want: "pretend user"},
		"a tap":                    {ask: vm.Create{Network: ptr("routed")}, want: "choosy routed"},
		"a tap, but no KVM":        {ask: vm.Create{Network: ptr("routed")}, noBackend: broken, want: "pretend routed"},
		"what cannot be published": {ask: vm.Create{Publish: &port}, want: "pretend user"},
		"asked for":                {ask: vm.Create{Backend: ptr("choosy")}, noTaps: broken, want: "choosy routed"},
		"asked for the other":      {ask: vm.Create{Backend: ptr("pretend")}, want: "pretend routed"},
		"asked for, no KVM":        {ask: vm.Create{Backend: ptr("choosy")}, noBackend: broken, code: banger.HostUnready, says: "backend choosy: no KVM"},
		"asked for both":           {ask: vm.Create{Backend: ptr("choosy"), Network: ptr("user")}, code: banger.WrongState, says: "needs a tap"},
		"asked for an unknown one": {ask: vm.Create{Backend: ptr("bochs")}, code: banger.Invalid, says: "bochs"},
	} {
		t.Run(name, func(t *testing.T) {
			w, noBackend, noTaps := choosyWorld(t)
			*noBackend, *noTaps = c.noBackend, c.noTaps
			c.ask.NoStart = true
			if c.ask.Publish != nil {
				(*c.ask.Publish)[0] = (*published(t, "127.0.0.1:8080:80"))[0]
			}
			v, err := w.manager(nil).Create(t.Context(), c.ask, quiet{})
			if c.want != "" {
				if got := v.Backend + " " + string(v.Network); err != nil || got != c.want {
					t.Errorf("got %s, %v, want %s", got, err, c.want)
				}
				return
			}
			if e := banger.AsError(err); e == nil || e.Code != c.code || !strings.Contains(e.Message, c.says) || e.Remedy == "" {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func TestSetBackend(t *testing.T) {
	w, noBackend, _ := choosyWorld(t)
	m := w.manager(nil)
	if _, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), Backend: ptr("pretend"), Network: ptr("user"), NoStart: true}, quiet{}); err != nil {
		t.Fatal(err)
	}
	set := func(c vm.Change, want string, code banger.Code) {
		t.Helper()
		_, err := m.Set(t.Context(), "web", c)
		v, serr := m.Show(t.Context(), "web")
		if got := v.Backend + " " + string(v.Network); serr != nil || got != want || (err != nil) != (code != "") || err != nil && banger.CodeOf(err) != code {
			t.Errorf("%s, %v, want %s, %s", got, err, want, code)
		}
	}
	set(vm.Change{Backend: ptr("bochs")}, "pretend user", banger.Invalid)
	set(vm.Change{Backend: ptr("choosy")}, "pretend user", banger.WrongState) // no tap
	set(vm.Change{Backend: ptr("choosy"), Network: ptr("routed")}, "choosy routed", "")
	set(vm.Change{Network: ptr("user")}, "choosy routed", banger.WrongState)
	set(vm.Change{Network: ptr("auto")}, "choosy routed", "")
	*noBackend = banger.Errorf(banger.HostUnready, "no KVM").WithRemedy("get one")
	set(vm.Change{Backend: ptr("choosy")}, "choosy routed", banger.HostUnready)
	set(vm.Change{Backend: ptr("pretend"), Network: ptr("auto")}, "pretend routed", "")
	if _, err := m.Start(t.Context(), "web", quiet{}); err != nil {
		t.Fatal(err)
	}
	set(vm.Change{Backend: ptr("pretend")}, "pretend routed", banger.WrongState) // it runs
}
