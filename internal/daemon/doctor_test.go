package daemon_test

import (
	"strings"
	"testing"

	"banger"
	"banger/internal/daemon"
	"banger/internal/doctor"
)

// Who has iptables-legacy is told what to do where that drops what VMs send.
func TestRouting(t *testing.T) {
	for modules, want := range map[string]doctor.Status{
		"": doctor.OK,
		"nf_tables 364544 42 - Live 0x0\nx_iptable_filter 1 0 - Live 0x0\n": doctor.OK,
		"iptable_filter 16384 1 - Live 0x0\nip_tables 36864 1 - Live 0x0\n": doctor.Note,
		"ip_tables 36864 1 - Live 0x0\niptable_filter 16384 1 - Live 0x0\n": doctor.Note,
	} {
		if got := daemon.Routing(modules, "btbeef"); got.Status != want || (want == doctor.Note) != strings.Contains(got.Remedy, "-i btbeef+ -j ACCEPT") {
			t.Errorf("%q: %+v", modules, got)
		}
	}
}

func TestWrong(t *testing.T) {
	vm := func(name string, p *banger.Problem) banger.VM {
		return banger.VM{Spec: banger.Spec{Name: name}, Problem: p}
	}
	full := func(message string) *banger.Problem {
		return &banger.Problem{Message: message, Remedy: "make room"}
	}
	for _, c := range []struct {
		vms  []banger.VM
		want doctor.Result
	}{
		{nil, doctor.Result{Status: doctor.OK, Message: "0, and nothing is wrong with them"}},
		{[]banger.VM{vm("web", nil)}, doctor.Result{Status: doctor.OK, Message: "1, and nothing is wrong with them"}},
		{[]banger.VM{vm("web", nil), vm("db", full("paused")), vm("ci", full("paused, too"))},
			doctor.Result{Status: doctor.Warning, Message: "db: paused; ci: paused, too", Remedy: "make room"}},
		{[]banger.VM{vm("web", &banger.Problem{Message: "odd"})}, doctor.Result{Status: doctor.Warning, Message: "web: odd", Remedy: "banger ps"}},
	} {
		if got := daemon.Wrong(c.vms); got != c.want {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
}
