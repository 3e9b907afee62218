package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
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
	path   string            // PATH
	places map[string]string // of tools that are not looked for
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

// Run implements Runner. When it returns, nothing of the tool's process group is
// left; a process that left the group is the tool's own affair (unshare has
// --kill-child for that).
func (h *Host) Run(ctx context.Context, c Cmd) ([]byte, error) {
	path, err := h.Look(c.Tool)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", c.Tool, context.Cause(ctx))
	}
	cmd := exec.Command(path, c.Args...)
	cmd.Args[0] = c.Tool
	cmd.Env = h.env(c.Env)
	cmd.Dir = c.Dir
	cmd.ExtraFiles = c.Files
	if c.Stdin != nil {
		cmd.Stdin = bytes.NewReader(c.Stdin)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: credential(c.Owner)}
	cmd.WaitDelay = killGrace // for whoever left the group with our pipes
	stdout := &bounded{limit: maxStdout}
	stderr := &lines{each: c.Stderr}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := keepDescriptors(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Tool, err)
	}
	g := &group{leader: cmd.Process.Pid}
	g.await(ctx)
	err = cmd.Wait()
	stderr.flush()
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
	return stdout.kept, nil
}

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

// keepDescriptors keeps what a careless parent of ours left open, and we
// inherited, from going on to others. All that Go opens is close-on-exec.
func keepDescriptors() error {
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("keep inherited descriptors: %w", err)
	}
	return nil
}

func credential(o *banger.Owner) *syscall.Credential {
	if o == nil {
		return nil
	}
	return &syscall.Credential{Uid: o.UID, Gid: o.GID, Groups: o.Groups}
}

// Launch implements Launcher. The process is our child as long as we live:
// whoever launches has a Watcher watch it, which reaps it.
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
	out, err := OpenLog(log, c.Owner)
	if err != nil {
		return ProcID{}, fmt.Errorf("open the log of %s: %w", c.Tool, err)
	}
	defer out.Close()
	stdout := out
	if c.Out != "" {
		if stdout, err = OpenLog(c.Out, c.Owner); err != nil {
			return ProcID{}, fmt.Errorf("open the output of %s: %w", c.Tool, err)
		}
		defer stdout.Close()
	}
	if err := keepDescriptors(); err != nil {
		return ProcID{}, err
	}
	p, err := os.StartProcess(path, append([]string{c.Tool}, c.Args...), &os.ProcAttr{
		Dir:   c.Dir,
		Env:   h.env(c.Env),
		Files: append([]*os.File{null, stdout, out}, c.Files...),
		Sys:   &syscall.SysProcAttr{Setsid: true, Credential: credential(c.Owner)},
	})
	if err != nil {
		return ProcID{}, fmt.Errorf("start %s: %w", c.Tool, err)
	}
	defer p.Release()        // its end is seen by a Watcher, not by p.Wait
	id, err := ProcOf(p.Pid) // not reaped yet: at worst a zombie, which has one
	if err != nil {
		return ProcID{}, errors.Join(err, p.Kill())
	}
	return id, nil
}
