package vmmtest

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"banger"
	"banger/internal/vmm"
)

func testBoots(t *testing.T, b Bench) {
	backend := b.New(t)
	caps, err := backend.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if caps.Accelerator == "" || caps.Why == "" || caps.Version == "" || !slices.Contains(caps.Formats, banger.FormatRaw) {
		t.Errorf("caps %+v", caps)
	}
	m := b.machine(t, "idle")
	before := "said before\n"
	if err := os.WriteFile(m.SerialLog, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	p := Start(t, backend, m)
	h := p.Handle()
	if h.Backend != backend.Name() || h.Version < 1 || h.Launch != m.Launch || h.Accelerator != caps.Accelerator || filepath.Dir(h.Socket) != m.Dir {
		t.Errorf("handle %+v", h)
	}
	if got := running(t, m.Launch); !slices.Equal(got, []int{h.PID}) {
		t.Errorf("the launch ID is in the argv of %v, want %d", got, h.PID)
	}
	uid := os.Getuid()
	if b.Owner != nil {
		uid = int(b.Owner.UID)
	}
	if got := uids(t, h.PID); uid == 0 || slices.ContainsFunc(got, func(s string) bool { return s != strconv.Itoa(uid) }) {
		t.Errorf("it runs as %v, want %d and never 0", got, uid)
	}
	said := console(t, m.SerialLog, "vmmtest: up")
	st, err := os.Stat(b.Modules)
	if err != nil {
		t.Fatal(err)
	}
	want := "vmmtest: vda=131072 vdb=" + strconv.FormatInt(st.Size()/512, 10) + " ro=1 mac=" + mac
	if !strings.HasPrefix(said, before) || !strings.Contains(said, want) {
		t.Errorf("the console says %q, want %q", said, want)
	}
	Kill(t, p)
}

func testPoweroff(t *testing.T, b Bench) {
	p := Start(t, b.New(t), b.machine(t, "poweroff"))
	if e := Wait(t, p); e.Cause != banger.ExitGuest || e.Reboot {
		t.Errorf("exit %+v", e)
	}
}

func testReboot(t *testing.T, b Bench) {
	p := Start(t, b.New(t), b.machine(t, "reboot"))
	if e := Wait(t, p); e.Cause != banger.ExitGuest || !e.Reboot {
		t.Errorf("exit %+v", e)
	}
}

// testPanic: a kernel's panic is the guest's end, and no wish to be started again.
func testPanic(t *testing.T, b Bench) {
	m := b.machine(t, "panic")
	p := Start(t, b.New(t), m)
	if e := Wait(t, p); e.Cause != banger.ExitGuest || e.Reboot || !strings.Contains(e.Detail, "panic") {
		t.Errorf("exit %+v", e)
	}
	console(t, m.SerialLog, "Kernel panic")
}

func testShutdown(t *testing.T, b Bench) {
	m := b.machine(t, "button")
	p := Start(t, b.New(t), m)
	console(t, m.SerialLog, "vmmtest: listening")
	if err := p.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := Wait(t, p); e.Cause != banger.ExitGuest || e.Reboot {
		t.Errorf("exit %+v", e)
	}
}

func testKill(t *testing.T, b Bench) {
	p := Start(t, b.New(t), b.machine(t, "idle"))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if e, err := p.Wait(ctx); err != nil || e.Cause != banger.ExitKilled {
				t.Errorf("exit %+v, %v", e, err)
			}
		})
	}
	early, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Wait(early); err == nil {
		t.Error("Wait outlived its ctx")
	}
	for range 2 {
		all.Go(func() { Kill(t, p) })
	}
	all.Wait()
	Kill(t, p) // again: nothing to do
}

func testKilledByAnother(t *testing.T, b Bench) {
	p := Start(t, b.New(t), b.machine(t, "idle"))
	end(t, p.Handle().PID)
	if e := Wait(t, p); e.Cause != banger.ExitUnknown || e.Detail == "" {
		t.Errorf("exit %+v", e)
	}
}

func testOutlivesRequest(t *testing.T, b Bench) {
	ctx, cancel := context.WithCancel(t.Context())
	m := b.machine(t, "idle")
	p, err := b.New(t).Start(ctx, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeProcess(t, p)
	cancel()
	console(t, m.SerialLog, "vmmtest: up")
	Kill(t, p)
}

func testAdopt(t *testing.T, b Bench) {
	m := b.machine(t, "button")
	p, err := b.New(t).Start(t.Context(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeProcess(t, p)
	closeProcess(t, p) // again: nothing to do
	h := p.Handle()
	if !alive(h.PID) {
		t.Fatal("the VM did not outlive its control connection")
	}
	q := adopt(t, b.New(t), h)
	if q.Handle() != h {
		t.Errorf("handle %+v, was %+v", q.Handle(), h)
	}
	console(t, m.SerialLog, "vmmtest: listening")
	if err := q.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := Wait(t, q); e.Cause != banger.ExitGuest || e.Reboot {
		t.Errorf("exit %+v", e)
	}
}

func testAdoptByLaunch(t *testing.T, b Bench) {
	backend := b.New(t)
	p, err := backend.Start(t.Context(), b.machine(t, "idle"), nil)
	if err != nil {
		t.Fatal(err)
	}
	closeProcess(t, p)
	q := adopt(t, b.New(t), banger.Handle{Backend: backend.Name(), Launch: p.Handle().Launch})
	if q.Handle() != p.Handle() {
		t.Errorf("handle %+v, was %+v", q.Handle(), p.Handle())
	}
	Kill(t, q)
	if e := Wait(t, q); e.Cause != banger.ExitKilled {
		t.Errorf("exit %+v", e)
	}
}

func testAdoptAfterEnd(t *testing.T, b Bench) {
	m := b.machine(t, "poweroff")
	p, err := b.New(t).Start(t.Context(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeProcess(t, p)                    // long before the guest has booted
	console(t, m.SerialLog, "] reboot: ") // powered down, or halted
	q, err := b.New(t).Adopt(t.Context(), p.Handle())
	if err == vmm.ErrGone {
		return // this VMM ends with its guest
	}
	if err != nil {
		t.Fatal(err)
	}
	defer closeProcess(t, q)
	if e := Wait(t, q); e.Cause != banger.ExitGuest || e.Reboot {
		t.Errorf("exit %+v", e)
	}
}

func testAdoptGone(t *testing.T, b Bench) {
	backend := b.New(t)
	p := Start(t, backend, b.machine(t, "idle"))
	reused := p.Handle()
	reused.Started++
	foreign := p.Handle()
	foreign.Launch = newLaunch()
	never := banger.Handle{Backend: backend.Name(), Launch: newLaunch()}
	gone := func(what string, h banger.Handle) {
		t.Helper()
		if q, err := b.New(t).Adopt(t.Context(), h); err != vmm.ErrGone {
			t.Errorf("%s: %v, %v", what, q, err)
		}
	}
	gone("a reused PID", reused)
	gone("another launch's", foreign)
	gone("never launched", never)
	Kill(t, p)
	gone("killed", p.Handle())
	gone("killed, by launch ID", banger.Handle{Backend: backend.Name(), Launch: p.Handle().Launch})
}
