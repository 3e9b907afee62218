package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guestapi"
)

// A Machine is the running VM, as banger's requests to the server see it.
type Machine struct {
	state   State
	readyAt int64
}

// NewMachine takes the time: the server listens now.
func NewMachine(s State) *Machine {
	return &Machine{state: s, readyAt: bootTime()}
}

// bootTime is the time since the kernel's start, in milliseconds.
func bootTime() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return ts.Nano() / int64(time.Millisecond)
}

// systemd reports whether the image's init is systemd.
func (m *Machine) systemd() bool { return filepath.Base(m.state.Init) == "systemd" }

// managerSocket is there once systemd answers.
const managerSocket = "/run/systemd/private"

// Status says how the machine is. It may take as long as systemctl does.
func (m *Machine) Status() guestapi.Status {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	system := ""
	if m.systemd() {
		system = "starting"
		if _, err := os.Stat(managerSocket); err == nil {
			system = isSystemRunning(ctx)
		}
	}
	return m.status(system)
}

func (m *Machine) status(system string) guestapi.Status {
	return guestapi.Status{
		Version: guestapi.Version, Launch: m.state.Identity.Launch,
		Booted: !m.systemd() || system == "running" || system == "degraded",
		System: system, Uptime: bootTime(), ReadyAt: m.readyAt, Problem: m.state.Problem,
	}
}

// WaitBooted returns once systemd has come up, or says that it will not.
func (m *Machine) WaitBooted(ctx context.Context) guestapi.Status {
	system := ""
	for m.systemd() {
		// systemctl cannot wait for a manager that is not there yet.
		if _, err := os.Stat(managerSocket); err == nil {
			system = isSystemRunning(ctx, "--wait")
		}
		switch system {
		case "running", "degraded", "maintenance", guestapi.SystemStopping:
			return m.status(system)
		}
		select {
		case <-ctx.Done():
			return m.status(system)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return m.status(system)
}

// isSystemRunning returns systemctl's word; its exit status says less.
func isSystemRunning(ctx context.Context, flags ...string) string {
	cmd := exec.CommandContext(ctx, "systemctl", append([]string{"is-system-running"}, flags...)...)
	out, err := cmd.Output()
	word := strings.TrimSpace(string(out))
	if word == "" && err != nil {
		return "unknown"
	}
	return word
}

// Shutdown begins to end the machine in the image's own way.
func (m *Machine) Shutdown(how string) error {
	if how != PowerOff && how != Reboot {
		return fmt.Errorf("%q is neither %s nor %s", how, PowerOff, Reboot)
	}
	if m.systemd() || m.state.Init == "" {
		go signalInit(how)
		return nil
	}
	program, err := exec.LookPath(how)
	if err != nil {
		return errors.New("the image has no program " + how)
	}
	cmd := exec.Command(program)
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait()
	return nil
}

// signalInit tells the first process. It may be just becoming the image's init
// and not listen yet, so it is told again; to be told twice does no harm.
func signalInit(how string) {
	for range 60 {
		for sig, what := range endings {
			if n := sig.(unix.Signal); n >= 38 && what == how {
				unix.Kill(1, n)
			}
		}
		time.Sleep(time.Second)
	}
}
