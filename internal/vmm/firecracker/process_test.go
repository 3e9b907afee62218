package firecracker_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/guestapi"
	"banger/internal/host"
	"banger/internal/vmm"
	"banger/internal/vmm/firecracker"
	"banger/internal/vmm/vmmtest"
)

func notify(t *testing.T, c chan os.Signal, sig os.Signal) {
	t.Helper()
	signal.Notify(c, sig)
	t.Cleanup(func() { signal.Stop(c) })
}

func TestHowItEnded(t *testing.T) {
	const launch = "00112233445566fc"
	for what, want := range map[string]banger.Exit{
		"reset:" + guestapi.ExitMarker(launch, "poweroff") + "\r\n[    9.1] reboot: Restarting system\r\n": {Cause: banger.ExitGuest},
		"reset:" + guestapi.ExitMarker(launch, "reboot") + "\r\n":                                          {Cause: banger.ExitGuest, Reboot: true},
		"reset:" + guestapi.ExitMarker("ffffffffffffffff", "poweroff") + "\r\n":                            {Cause: banger.ExitGuest, Reboot: true},
		"reset:": {Cause: banger.ExitGuest, Reboot: true},
		"reset:[    3.1] Kernel panic - not syncing: sysrq\r\n": {Cause: banger.ExitGuest, Detail: "its kernel panicked"},
		"say:[    9.123456] reboot: Power down\r\n":             {Cause: banger.ExitGuest},
		"say:[    9.123456] reboot: System halted\r\n":          {Cause: banger.ExitGuest},
		"crash": {Cause: banger.ExitUnknown, Detail: "Firecracker exited with code 149"},
	} {
		t.Run(what, func(t *testing.T) {
			vmmtest.WantEnd(t, start(t, what), want)
		})
	}
}

// What no process's end says: it was not our child.
func TestHowAnAdoptedOneEnded(t *testing.T) {
	const launch = "00112233445566fc"
	for _, c := range []struct {
		console string
		killed  bool
		want    banger.Exit
	}{
		{"", false, banger.Exit{Cause: banger.ExitUnknown, Detail: "Firecracker ended; its status is not known"}},
		{"", true, banger.Exit{Cause: banger.ExitKilled}},
		{"x\n[    1.0] reboot: Restarting system\n", false, banger.Exit{Cause: banger.ExitGuest, Reboot: true}},
		{"echo reboot: Restarting system\n", false, banger.Exit{Cause: banger.ExitUnknown, Detail: "Firecracker ended; its status is not known"}},
		{guestapi.ExitMarker(launch, "poweroff") + "\n", false, banger.Exit{Cause: banger.ExitGuest}},
		{"[    1.0] Kernel panic - not syncing: x\n", false, banger.Exit{Cause: banger.ExitGuest, Detail: "its kernel panicked"}},
	} {
		if got := firecracker.HowEnded(firecracker.End{}, c.console, launch, false, c.killed); got != c.want {
			t.Errorf("%q: got %+v, want %+v", c.console, got, c.want)
		}
	}
	// A guest that ends itself while it is killed has ended itself.
	if got := firecracker.HowEnded(firecracker.End{Known: true}, "", launch, false, true); got.Cause != banger.ExitGuest {
		t.Errorf("got %+v", got)
	}
	if got := firecracker.HowEnded(firecracker.End{Known: true, Sig: unix.SIGSEGV}, "", launch, false, false); got.Detail != "Firecracker was ended by SIGSEGV" {
		t.Errorf("got %+v", got)
	}
}

// A second Shutdown panics in the SDK.
func TestShutdownTwice(t *testing.T) {
	p := start(t, "hang:PUT /actions {\"action_type\":\"SendCtrlAltDel\"")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for range 2 {
		if err := p.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
	vmmtest.Kill(t, p)
	if err := p.Shutdown(t.Context()); err == nil {
		t.Error("a VMM that is gone was asked")
	}
}

func TestKillWithoutWords(t *testing.T) {
	for _, what := range []string{"deaf", "hang:PUT /actions {\"action_type\":\"SendCtrlAltDel\""} {
		t.Run(what, func(t *testing.T) {
			p := start(t, what)
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() { vmmtest.Kill(t, p) })
			}
			all.Wait()
			if e := vmmtest.Wait(t, p); e.Cause != banger.ExitKilled {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func TestKillCancelled(t *testing.T) {
	p := start(t, "deaf")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Kill(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	vmmtest.Kill(t, p)
}

func adopt(t *testing.T, h banger.Handle) vmm.Process {
	t.Helper()
	b := backendOn(t, host.New(os.Getenv("PATH")), slog.New(slog.DiscardHandler))
	b.SetLimits(limit, 100*time.Millisecond)
	q, err := b.Adopt(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

func TestAdopt(t *testing.T) {
	p := start(t, "")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(t.Context()); err == nil {
		t.Error("Wait after Close knows an end")
	}
	for what, h := range map[string]banger.Handle{"by its PID": p.Handle(), "by its launch": {Backend: "firecracker", Launch: p.Handle().Launch}} {
		q := adopt(t, h)
		if q.Handle() != p.Handle() {
			t.Errorf("%s: %+v, was %+v", what, q.Handle(), p.Handle())
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
	q := adopt(t, p.Handle())
	if err := q.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := vmmtest.Wait(t, q); e.Cause != banger.ExitGuest || !e.Reboot {
		t.Errorf("exit %+v", e)
	}
	if _, err := backendOn(t, host.New(""), slog.New(slog.DiscardHandler)).Adopt(t.Context(), p.Handle()); err != vmm.ErrGone {
		t.Errorf("gone: %v", err)
	}
}

// A guest that halts while no daemon runs is found halted by the next.
func TestAdoptHalted(t *testing.T) {
	p := start(t, "say:[    9.123456] reboot: Power down\r\n")
	if err := p.Close(); err != nil { // before the second in which it would be noticed
		t.Fatal(err)
	}
	q := adopt(t, p.Handle())
	if e := vmmtest.Wait(t, q); e.Cause != banger.ExitGuest || e.Reboot {
		t.Errorf("exit %+v", e)
	}
}

// The last words of an earlier run are not this one's.
func TestEarlierRunHalted(t *testing.T) {
	m := standInMachine(t, "quiet")
	if err := os.WriteFile(m.SerialLog, []byte("[    9.123456] reboot: Power down\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	console := read(t, m.SerialLog)
	p, err := standInBackend(t).Start(t.Context(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	got := read(t, m.SerialLog)
	if !strings.HasPrefix(got, console+firecracker.Beginning(m.Launch)+"\n") {
		t.Errorf("the console's log is %q", got)
	}
	if said := firecracker.ConsoleOf(m.SerialLog, m.Launch, firecracker.MaxTail); firecracker.IsHalted(said) || strings.Contains(said, "Power down") {
		t.Errorf("it said %q", said)
	}
	vmmtest.Kill(t, p)
}

// A VMM that does not answer is adopted, and can be ended.
func TestAdoptStopped(t *testing.T) {
	p := start(t, "")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	id := host.ProcID{PID: p.Handle().PID, Started: p.Handle().Started}
	if err := host.Signal(id, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	q := adopt(t, p.Handle())
	vmmtest.Kill(t, q)
	if e := vmmtest.Wait(t, q); e.Cause != banger.ExitKilled {
		t.Errorf("told as %+v", e)
	}
}

// A VMM whose guest was never started, since the daemon died, is no VM.
func TestAdoptNotStarted(t *testing.T) {
	m := standInMachine(t, "")
	socket := filepath.Join(m.Dir, "api.sock")
	id, err := standInHost(t).Launch(t.Context(), host.Cmd{Tool: tool, Args: firecracker.Argv(m, socket), Dir: "/", Owner: m.Owner}, m.VMMLog)
	if err != nil {
		t.Fatal(err)
	}
	h := banger.Handle{Backend: "firecracker", Version: 1, Launch: m.Launch, PID: id.PID, Started: id.Started, Socket: socket}
	b := backendOn(t, host.New(""), slog.New(slog.DiscardHandler))
	if q, err := b.Adopt(t.Context(), h); err != vmm.ErrNoGuest || !errors.Is(err, vmm.ErrGone) {
		t.Errorf("%v, %v", q, err)
	}
	if host.Alive(id) {
		t.Error("it lives")
	}
	if q, err := b.Adopt(t.Context(), h); err != vmm.ErrGone {
		t.Errorf("again: %v, %v", q, err)
	}
}

// A VMM whose socket leads to another VM's, as one that a guest has taken over
// can arrange where the daemon is root, gets nothing of that VM done.
func TestSocketOfAnother(t *testing.T) {
	victim, taken := start(t, ""), start(t, "")
	socket := taken.Handle().Socket
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim.Handle().Socket, socket); err != nil {
		t.Fatal(err)
	}
	if err := taken.Shutdown(t.Context()); err == nil || !strings.Contains(err.Error(), "not the VMM") {
		t.Errorf("got %v", err)
	}
	vmmtest.Kill(t, taken)
	if requests := read(t, filepath.Join(filepath.Dir(victim.Handle().Socket), "requests")); strings.Contains(requests, "SendCtrlAltDel") {
		t.Errorf("the other VM was asked: %s", requests)
	}
	vmmtest.Kill(t, victim)
}

func TestAdoptRefusesForeignHandles(t *testing.T) {
	for _, h := range []banger.Handle{{Backend: "qemu", Version: 1}, {Backend: "firecracker", Version: 2}} {
		if _, err := standInBackend(t).Adopt(t.Context(), h); err == nil || errors.Is(err, vmm.ErrGone) {
			t.Errorf("%+v: %v", h, err)
		}
	}
}
