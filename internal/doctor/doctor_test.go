package doctor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"banger"
	"banger/internal/doctor"
)

func is(s doctor.Status) func(context.Context) doctor.Result {
	return func(context.Context) doctor.Result { return doctor.Result{Status: s, Message: "m"} }
}

func table(qemu doctor.Status) []doctor.Check {
	return []doctor.Check{
		{Name: "state", Probe: is(doctor.OK), For: []string{"vm-start", "image-build"}},
		{Name: "qemu", Probe: is(qemu), For: []string{"vm-start"}},
		{Name: "kvm", Probe: is(doctor.Warning), Needs: []string{"qemu"}},
		{Name: "snapshot", Probe: is(doctor.OK), Needs: []string{"kvm"}, For: []string{"snapshot"}},
		{Name: "bundle", Probe: is(doctor.Note), For: []string{"vm-start"}},
	}
}

func run(t *testing.T, checks []doctor.Check, purpose string) (string, bool) {
	t.Helper()
	out, err := doctor.Run(t.Context(), checks, purpose)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, o := range out {
		fmt.Fprintf(&b, "%s %s: %s\n", o.Name, o.Status, o.Message)
	}
	return b.String(), doctor.Healthy(out)
}

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name    string
		qemu    doctor.Status
		purpose string
		want    string
		healthy bool
	}{
		{"all", doctor.OK, "", "state ok: m\nqemu ok: m\nkvm warning: m\nsnapshot ok: m\nbundle note: m\n", true},
		{"dependents of a failed one", doctor.Failed, "", "state ok: m\nqemu failed: m\nkvm skipped: needs qemu\nsnapshot skipped: needs kvm\nbundle note: m\n", false},
		{"of one command", doctor.Warning, "vm-start", "state ok: m\nqemu warning: m\nbundle note: m\n", true},
		{"with what it needs", doctor.OK, "snapshot", "qemu ok: m\nkvm warning: m\nsnapshot ok: m\n", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, healthy := run(t, table(c.qemu), c.purpose); got != c.want || healthy != c.healthy {
				t.Errorf("healthy %v\n%s", healthy, got)
			}
		})
	}
}

func TestWrongPurpose(t *testing.T) {
	_, err := doctor.Run(t.Context(), table(doctor.OK), "vm-stop")
	if e := banger.AsError(err); e == nil || e.Code != banger.Invalid || e.Remedy != "use one of image-build, snapshot, vm-start" {
		t.Errorf("%+v", e)
	}
}

func TestWrongTable(t *testing.T) {
	for _, bad := range [][]doctor.Check{
		{{Name: "a", Needs: []string{"b"}}, {Name: "b"}},
		{{Name: "a"}, {Name: "a"}},
	} {
		if _, err := doctor.Run(t.Context(), bad, ""); err == nil {
			t.Errorf("%v passed", bad)
		}
	}
}

// A doctor that nobody waits for any more stops.
func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	checks := []doctor.Check{
		{Name: "a", Probe: func(context.Context) doctor.Result { cancel(); return doctor.Result{Status: doctor.OK} }},
		{Name: "b", Probe: func(context.Context) doctor.Result { t.Error("b was run"); return doctor.Result{} }},
	}
	if out, err := doctor.Run(ctx, checks, ""); !errors.Is(err, context.Canceled) || len(out) != 1 {
		t.Errorf("%v %v", out, err)
	}
}

func TestFromError(t *testing.T) {
	if r := doctor.FromError(nil, "fine"); r != (doctor.Result{Status: doctor.OK, Message: "fine"}) {
		t.Errorf("%+v", r)
	}
	err := fmt.Errorf("probe: %w", banger.Errorf(banger.HostUnready, "no qemu").WithRemedy("apt install qemu"))
	if r := doctor.FromError(err, "fine"); r != (doctor.Result{Status: doctor.Failed, Message: "probe: no qemu", Remedy: "apt install qemu"}) {
		t.Errorf("%+v", r)
	}
}
