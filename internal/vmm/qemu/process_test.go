package qemu_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/host"
	"banger/internal/vmm"
	"banger/internal/vmm/qemu"
	"banger/internal/vmm/vmmtest"
)

// standInBackend returns a backend whose QEMU is the stand-in.
func standInBackend(t *testing.T) *qemu.Backend {
	t.Helper()
	return backendOn(t, vmmtest.StandIn(t, tool))
}

// standInMachine is a machine for the stand-in, which does what.
func standInMachine(t *testing.T, what string) vmm.Machine {
	t.Helper()
	m := exampleMachine()
	m.Owner = vmmtest.Owner()
	vmmtest.Place(t, &m)
	m.Cmdline = []string{"standin=" + what}
	return m
}

func start(t *testing.T, what string) vmm.Process {
	t.Helper()
	return vmmtest.Start(t, standInBackend(t), standInMachine(t, what))
}

func TestHowItEnded(t *testing.T) {
	for what, want := range map[string]banger.Exit{
		"say:guest-shutdown": {Cause: banger.ExitGuest},
		"say:guest-reset":    {Cause: banger.ExitGuest, Reboot: true},
		"panic":              {Cause: banger.ExitGuest, Detail: "its kernel panicked"},
		"say:host-signal":    {Cause: banger.ExitUnknown, Detail: "QEMU ended: host-signal"},
		"say:":               {Cause: banger.ExitUnknown, Detail: "QEMU ended: without a reason"},
		"say:\u009b":         {Cause: banger.ExitUnknown, Detail: `QEMU ended: \xc2\x9b`},
	} {
		t.Run(what, func(t *testing.T) {
			vmmtest.WantEnd(t, start(t, what), want)
		})
	}
}

// A VMM that cannot be asked can be ended.
func TestKillWithoutWords(t *testing.T) {
	for _, what := range []string{"garbage", "endless", "hangup", "deaf"} {
		t.Run(what, func(t *testing.T) {
			p := start(t, what)
			vmmtest.Kill(t, p)
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

func TestShutdownRefused(t *testing.T) {
	p := start(t, "")
	if err := p.Shutdown(t.Context()); err == nil || !strings.Contains(err.Error(), `no \x1b[1m button`) {
		t.Errorf("got %v", err)
	}
	vmmtest.Kill(t, p)
}

func TestAdoptStandIn(t *testing.T) {
	for what, want := range map[string]banger.Exit{
		"status:shutdown":       {Cause: banger.ExitGuest, Detail: "it ended while bangerd was not running"},
		"status:guest-panicked": {Cause: banger.ExitGuest, Detail: "its kernel panicked"},
		"status:running":        {Cause: banger.ExitKilled},
		"garbage":               {Cause: banger.ExitKilled},
	} {
		t.Run(what, func(t *testing.T) {
			p := start(t, what)
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Wait(t.Context()); err == nil {
				t.Error("Wait after Close knows an end")
			}
			q, err := newBackend(t).Adopt(t.Context(), p.Handle())
			if err != nil {
				t.Fatal(err)
			}
			defer q.Close()
			if want.Cause == banger.ExitKilled {
				vmmtest.Kill(t, q)
			}
			got := vmmtest.Wait(t, q)
			got.At = time.Time{}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// adoptSilent adopts a VMM that does not answer for now.
func adoptSilent(t *testing.T, h banger.Handle) vmm.Process {
	t.Helper()
	b := backendOn(t, os.Getenv("PATH"))
	b.SetPatience(50 * time.Millisecond)
	q, err := b.Adopt(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	if err := q.Shutdown(t.Context()); err == nil {
		t.Error("a VMM that does not answer was asked to shut down")
	}
	return q
}

// A VMM that was stopped when it was adopted is asked again once it goes on: its
// guest's end does not go unseen.
func TestAdoptStopped(t *testing.T) {
	p := start(t, "status:shutdown")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	id := host.ProcID{PID: p.Handle().PID, Started: p.Handle().Started}
	if err := host.Signal(id, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	q := adoptSilent(t, p.Handle())
	if err := host.Signal(id, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if e := vmmtest.Wait(t, q); e.Cause != banger.ExitGuest {
		t.Errorf("told as %+v", e)
	}
}

// A VMM whose socket leads to another VM's, as one that a guest has taken over
// can arrange where the daemon is root, gets nothing of that VM done.
func TestAdoptSocketOfAnother(t *testing.T) {
	victim, taken := start(t, ""), start(t, "")
	for _, p := range []vmm.Process{victim, taken} {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	socket := taken.Handle().Socket
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim.Handle().Socket, socket); err != nil {
		t.Fatal(err)
	}
	vmmtest.Kill(t, adoptSilent(t, taken.Handle()))
	q, err := newBackend(t).Adopt(t.Context(), victim.Handle())
	if err != nil {
		t.Fatalf("the other VM: %v", err)
	}
	defer q.Close()
	vmmtest.Kill(t, q)
}

func TestAdoptRefusesForeignHandles(t *testing.T) {
	for _, h := range []banger.Handle{{Backend: "firecracker", Version: 1}, {Backend: "qemu", Version: 2}} {
		if _, err := newBackend(t).Adopt(t.Context(), h); err == nil || errors.Is(err, vmm.ErrGone) {
			t.Errorf("%+v: %v", h, err)
		}
	}
}

func TestStartEarlyDeath(t *testing.T) {
	m := standInMachine(t, "die")
	_, err := standInBackend(t).Start(t.Context(), m, nil)
	e := banger.AsError(err)
	if e.Message != `QEMU exited with code 3 at once: second \x1b[2J; third` || e.Log != m.VMMLog {
		t.Errorf("got %+v", e)
	}
}

func TestStartSilence(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := standInBackend(t).Start(ctx, standInMachine(t, "mute"), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestStartBesideAnother(t *testing.T) {
	m := standInMachine(t, "")
	l, err := net.Listen("unix", filepath.Join(m.Dir, "qmp.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := standInBackend(t).Start(t.Context(), m, nil); banger.CodeOf(err) != banger.Busy {
		t.Errorf("got %v", err)
	}
}

func TestStartAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: is refused as root")
	}
	b := standInBackend(t)
	for _, o := range []*banger.Owner{nil, {}} {
		m := standInMachine(t, "")
		m.Owner = o
		if _, err := b.Start(t.Context(), m, nil); err == nil || !strings.Contains(err.Error(), "never runs as root") {
			t.Errorf("%v: %v", o, err)
		}
	}
}

func TestProbe(t *testing.T) {
	caps, err := standInBackend(t).Probe(t.Context())
	if err != nil || caps.Version != `QEMU emulator version 0 (a \x1b[31mstand-in)` || caps.Why == "" {
		t.Errorf("%+v, %v", caps, err)
	}
	if caps.Accelerator == "tcg" && !strings.Contains(caps.Why, "slow") {
		t.Errorf("why: %s", caps.Why)
	}
	t.Log(caps.Accelerator, caps.Why)
}

func TestProbeWithoutQEMU(t *testing.T) {
	_, err := backendOn(t, t.TempDir()).Probe(t.Context())
	e := banger.AsError(err)
	if e.Code != banger.HostUnready || !strings.HasPrefix(e.Remedy, "sudo apt install qemu-system-x86; ") {
		t.Errorf("got %+v", e)
	}
}

func FuzzHear(f *testing.F) {
	f.Add([]byte("{\"QMP\": {}}\r\n{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-reset\"}}\r\n"))
	f.Add([]byte("{\"return\": {}, \"id\": 1}\n{\"event\": \"SHUTDOWN\", \"data\": 7}\n"))
	f.Add([]byte("{\"id\": 99999999999999999999}\n[]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := net.Pipe()
		sent := make(chan struct{})
		go func() { defer close(sent); theirs.Write(b); theirs.Close() }()
		reason := qemu.Hear(ours)
		if reason != host.Escape(reason) {
			t.Errorf("reason %q is not escaped", reason)
		}
		<-sent
		if n, err := ours.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the connection is open: %d, %v", n, err)
		}
	})
}

// A QEMU that has stopped its guest since a disk could not be written says so, to
// the next daemon too, until it is resumed.
func TestStalled(t *testing.T) {
	for what, stalls := range map[string]bool{"block:stop": true, "status:io-error": true, "block:report": false, "status:running": false} {
		b := standInBackend(t)
		p, err := b.Start(t.Context(), standInMachine(t, what), nil)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(what, "status") {
			h := p.Handle()
			p.Close()
			if p, err = b.Adopt(t.Context(), h); err != nil {
				t.Fatal(err)
			}
		}
		s := p.(vmm.Staller)
		// The event came before the answer to whatever is asked now.
		if err := p.Shutdown(t.Context()); err == nil {
			t.Error("the stand-in has no button")
		}
		if s.Stalled() != stalls {
			t.Errorf("%s: stalled %t", what, s.Stalled())
		}
		if err := s.Resume(t.Context()); err != nil || s.Stalled() {
			t.Errorf("%s: resumed: stalled %t, %v", what, s.Stalled(), err)
		}
		if err := p.Kill(t.Context()); err != nil {
			t.Error(err)
		}
		p.Close()
	}
}
