package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger"
)

// Bounds of what a tool may say, and of how long its group has to end.
const (
	maxStdout  = 16 << 20
	stderrTail = 16 << 10
	killGrace  = 5 * time.Second
)

// A Host is the real one: Runner and Launcher.
type Host struct {
	path string // PATH
}

// New returns the real host, with the daemon's own PATH.
func New(path string) *Host { return &Host{path: path} }

// An ExitError is a tool that ran and failed.
type ExitError struct {
	Argv   []string
	Code   int
	Signal string // "": it exited with Code
	Stderr string // the last of it, escaped
}

func (e *ExitError) Error() string {
	how := fmt.Sprintf("exit code %d", e.Code)
	if e.Signal != "" {
		how = "ended by " + e.Signal
	}
	msg := fmt.Sprintf("%s: %s", e.Argv[0], how)
	if last := lastLine(e.Stderr); last != "" {
		msg += ": " + last
	}
	return msg
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// Run implements Runner.
func (h *Host) Run(ctx context.Context, c Cmd) ([]byte, error) {
	path, err := h.Look(c.Tool)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, c.Args...)
	cmd.Args[0] = c.Tool
	cmd.Env = h.env(c.Env)
	cmd.Dir = c.Dir
	cmd.ExtraFiles = c.Files
	cmd.Stdin = bytes.NewReader(c.Stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: credential(c.Owner)}
	cmd.Cancel = func() error { return terminate(cmd.Process.Pid) }
	cmd.WaitDelay = killGrace
	stdout := &bounded{limit: maxStdout}
	stderr := &lines{each: c.Stderr}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err = cmd.Run()
	stderr.flush()
	if cmd.Process != nil {
		// What the tool left running in its group ends with it.
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", c.Tool, context.Cause(ctx))
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, &ExitError{
			Argv: append([]string{c.Tool}, c.Args...), Code: exit.ExitCode(), Signal: signalOf(exit), Stderr: stderr.String(),
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Tool, err)
	}
	if stdout.over {
		return nil, fmt.Errorf("%s: more than %d bytes of output", c.Tool, maxStdout)
	}
	return stdout.Bytes(), nil
}

// terminate asks a process group to end, so that a tool can take away what it
// made (a mount, a temporary directory); exec's WaitDelay ends it otherwise.
func terminate(pid int) error { return unix.Kill(-pid, unix.SIGTERM) }

func signalOf(e *exec.ExitError) string {
	if ws, ok := e.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return unix.SignalName(ws.Signal())
	}
	return ""
}

// env is what a tool gets: c's own, a fixed locale and a PATH that has sbin.
func (h *Host) env(own []string) []string {
	return slices.Concat([]string{
		"LC_ALL=C.UTF-8",
		"PATH=" + h.path + ":" + strings.Join(sbin, ":"),
	}, own)
}

func credential(o *banger.Owner) *syscall.Credential {
	if o == nil {
		return nil
	}
	return &syscall.Credential{Uid: o.UID, Gid: o.GID, Groups: o.Groups}
}

// Launch implements Launcher. The process is bangerd's child at its birth: a
// Watcher reaps it.
func (h *Host) Launch(ctx context.Context, c Cmd, log string) (ProcID, error) {
	path, err := h.Look(c.Tool)
	if err != nil {
		return ProcID{}, err
	}
	if err := ctx.Err(); err != nil {
		return ProcID{}, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return ProcID{}, err
	}
	defer null.Close()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return ProcID{}, fmt.Errorf("open the log of %s: %w", c.Tool, err)
	}
	defer out.Close()
	if c.Owner != nil {
		if err := out.Chown(int(c.Owner.UID), int(c.Owner.GID)); err != nil {
			return ProcID{}, err
		}
	}
	p, err := os.StartProcess(path, append([]string{c.Tool}, c.Args...), &os.ProcAttr{
		Dir:   c.Dir,
		Env:   h.env(c.Env),
		Files: append([]*os.File{null, out, out}, c.Files...),
		Sys:   &syscall.SysProcAttr{Setsid: true, Credential: credential(c.Owner)},
	})
	if err != nil {
		return ProcID{}, fmt.Errorf("start %s: %w", c.Tool, err)
	}
	defer p.Release() // its end is seen by a Watcher, not by p.Wait
	return ProcOf(p.Pid)
}
