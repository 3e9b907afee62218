package daemon_test

import (
	"testing"

	"banger"
	"banger/internal/daemon"
	"banger/internal/doctor"
)

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
