package vm_test

import (
	"context"
	"strings"
	"testing"

	"banger"
	"banger/internal/network"
	"banger/internal/vm"
)

// absent is a pretend mode routed that is not to be had while why is set.
type absent struct {
	translated
	why *error
}

func (a absent) Probe(context.Context) error { return *a.why }

// A VM that is asked for with no mode is routed where that can be had, with NAT if it
// is to have any; else it is of mode user, and one line says why. What it has become
// is recorded: it does not change with what the host has later.
func TestAuto(t *testing.T) {
	w, why := newWorld(t), error(nil)
	tr := &translation{now: map[banger.VMID]bool{}}
	noNAT := false
	w.configure = func(c *vm.Config) {
		c.Nets = []network.Attacher{nets{w}, absent{translated{nets{w}, tr}, &why}}
		c.NoNAT = noNAT
	}
	noRoot := banger.Errorf(banger.NeedsRoot, "no banger-root").WithRemedy("start it")
	for name, c := range map[string]struct {
		root, nat error // why there is none
		isolated  bool
		ask       *bool
		noNAT     bool
		want      string // mode and NAT; "": refused
		told      string
	}{
		"plain":               {want: "routed wanted"},
		"no-root":             {root: noRoot, want: "user wanted", told: "network mode user: no banger-root; start it"},
		"no-uplink":           {nat: errNoUplink, want: "user wanted", told: "network mode user: no uplink; plug it in"},
		"no-uplink-off":       {nat: errNoUplink, ask: ptr(false), want: "routed off"},
		"no-uplink-default":   {nat: errNoUplink, noNAT: true, want: "routed off"},
		"no-uplink-asked":     {nat: errNoUplink, ask: ptr(true), want: "user required", told: "network mode user: no uplink; plug it in"},
		"asked":               {ask: ptr(true), want: "routed required"},
		"off":                 {ask: ptr(false), want: "routed off"},
		"off-no-root":         {root: noRoot, ask: ptr(false), told: "network mode user: no banger-root; start it"},
		"isolated":            {isolated: true, want: "user wanted"},
		"isolated-asked":      {isolated: true, ask: ptr(true), want: "routed required"},
		"isolated-off":        {isolated: true, ask: ptr(false), want: "routed off"},
		"isolated-no-root":    {isolated: true, root: noRoot, want: "user wanted"},
		"isolated-asked-none": {isolated: true, ask: ptr(true), root: noRoot, told: "network mode user: no banger-root; start it"},
	} {
		why, tr.lacks, noNAT = c.root, c.nat, c.noNAT
		m := w.manager(nil)
		h := &heard{}
		v, err := m.Create(t.Context(), vm.Create{Name: &name, Network: ptr("auto"), Isolated: &c.isolated, NAT: c.ask, NoStart: true}, h)
		got := ""
		if err == nil {
			got = string(v.Network) + " " + string(v.NAT)
		}
		if got != c.want || (err != nil) != (c.want == "") || strings.Join(h.lines, "|") != c.told {
			t.Errorf("%s: %q, %v, want %q; told %q", name, got, err, c.want, h.lines)
		}
		m.Close()
	}
	why, tr.lacks, noNAT = noRoot, nil, false
	m := w.manager(nil)
	if v, err := m.Show(t.Context(), "plain"); err != nil || v.Network != banger.NetworkRouted {
		t.Errorf("later: %s, %v", v.Network, err)
	}
	if _, err := m.Start(t.Context(), "plain", quiet{}); banger.CodeOf(err) != banger.NeedsRoot {
		t.Errorf("start: %v", err)
	}
	if v, err := m.Set(t.Context(), "plain", vm.Change{Network: ptr("auto")}); err != nil || v.Network != banger.NetworkUser {
		t.Errorf("set without banger-root: %s, %v", v.Network, err)
	}
	why = nil
	if v, err := m.Set(t.Context(), "plain", vm.Change{Network: ptr("auto")}); err != nil || v.Network != banger.NetworkRouted {
		t.Errorf("set with it: %s, %v", v.Network, err)
	}
}
