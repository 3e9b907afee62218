package vmmtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/vmm"
)

func testStartFails(t *testing.T, b Bench) {
	for name, spoil := range map[string]func(m *vmm.Machine){
		"missing kernel": func(m *vmm.Machine) {
			m.Kernel = filepath.Join(m.Dir, "none")
			m.VMLinux = m.Kernel
		},
		"bad kernel":        func(m *vmm.Machine) { m.Kernel = m.VMMLog; m.VMLinux = m.VMMLog },
		"missing disk":      func(m *vmm.Machine) { m.Disks[0].Path = filepath.Join(m.Dir, "none") },
		"unwritable log":    func(m *vmm.Machine) { m.VMMLog = filepath.Join(m.Dir, "none", "vmm.log") },
		"unwritable serial": func(m *vmm.Machine) { m.SerialLog = "/dev/full/serial.log" },
		"too much memory":   func(m *vmm.Machine) { m.Memory = 1 << 60 },
		"long path":         func(m *vmm.Machine) { m.Dir = filepath.Join(m.Dir, strings.Repeat("x", 100)) },
	} {
		t.Run(name, func(t *testing.T) {
			m := b.machine(t, "idle")
			if err := os.WriteFile(m.VMMLog, []byte("an old complaint\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			spoil(&m)
			p, err := b.New(t).Start(t.Context(), m, nil)
			if err == nil {
				Kill(t, p)
				t.Fatal("it started")
			}
			if strings.Contains(err.Error(), "old complaint") {
				t.Errorf("%v: that was an earlier run's", err)
			}
			t.Log(err)
		})
	}
}

func testNotRecorded(t *testing.T, b Bench) {
	m := b.machine(t, "idle")
	full := errors.New("database is full")
	var h banger.Handle
	_, err := b.New(t).Start(t.Context(), m, func(l banger.Handle) error { h = l; return full })
	if !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	if h.PID == 0 || h.Started == 0 || h.Launch != m.Launch {
		t.Errorf("handle %+v", h)
	}
	if alive(h.PID) {
		t.Error("it lives")
	}
}

func testStartCancelled(t *testing.T, b Bench) {
	ctx, cancel := context.WithCancel(t.Context())
	m := b.machine(t, "idle")
	_, err := b.New(t).Start(ctx, m, func(banger.Handle) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A second VMM in the first one's directory is refused and does it no harm.
func testStartTwice(t *testing.T, b Bench) {
	m := b.machine(t, "idle")
	p := Start(t, b.New(t), m)
	second := m
	second.Launch = newLaunch()
	if _, err := b.New(t).Start(t.Context(), second, nil); err == nil {
		t.Error("the second started")
	}
	if got := running(t, second.Launch); len(got) != 0 {
		t.Errorf("processes of the second: %v", got)
	}
	closeProcess(t, p)
	q := adopt(t, b.New(t), p.Handle())
	Kill(t, q)
}

// A VM starts again whatever its last run left behind.
func testStartAgain(t *testing.T, b Bench) {
	m := b.machine(t, "idle")
	p := Start(t, b.New(t), m)
	end(t, p.Handle().PID) // with no chance to remove its socket
	Wait(t, p)
	m.Launch = newLaunch()
	q := Start(t, b.New(t), m)
	console(t, m.SerialLog, "vmmtest: up")
	Kill(t, q)
}

// A guest whose words find no room runs all the same.
func testFullLogDisk(t *testing.T, b Bench) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root: fills a file system of its own")
	}
	m := b.machine(t, "reboot")
	dir := filepath.Join(m.Dir, "full")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0777"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	m.SerialLog, m.VMMLog = filepath.Join(dir, "serial.log"), filepath.Join(dir, "vmm.log")
	said := "\n[    1.0] reboot: System halted\n"
	said = strings.Repeat("x", os.Getpagesize()-len(said)) + said // no room in its last page, either
	if err := os.WriteFile(m.SerialLog, []byte(said), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "all"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("there is room: %v", err)
	}
	p := Start(t, b.New(t), m)
	if e := Wait(t, p); e.Cause != banger.ExitGuest || !e.Reboot {
		t.Errorf("exit %+v", e)
	}
}
