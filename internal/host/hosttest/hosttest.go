// Package hosttest is a pretend host: a Runner and Launcher whose tools change
// a small model of files and processes, which prints itself. A test compares
// the printed world before and after. It starts nothing and touches no file.
package hosttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"banger/internal/host"
)

// A Tool does to the world what the real program would do, and returns its
// stdout. An argv that it does not know is ErrUnknown.
type Tool func(w *World, c host.Cmd) ([]byte, error)

// ErrUnknown fails the test: what nobody foresaw must not pass for done.
var ErrUnknown = errors.New("unknown argv")

// A World is what the pretend host has. Tools and tests change it.
type World struct {
	Files map[string]string             // path to what it is, in words
	Procs map[host.ProcID]host.Cmd      // those that live
	Logs  map[string][]string           // log to the tools that were launched with it
	Fail  func(n int, c host.Cmd) error // asked before call n, from 1; nil: none fails

	t     testing.TB
	tools map[string]Tool
	calls []string
	next  int
}

// A Host implements host.Runner and host.Launcher on a World.
type Host struct {
	mu    sync.Mutex
	world World
}

// firstPID is the PID of the first process that is launched.
const firstPID = 1000

// New returns an empty world with these tools.
func New(t testing.TB, tools map[string]Tool) *Host {
	return &Host{world: World{
		Files: map[string]string{}, Procs: map[host.ProcID]host.Cmd{}, Logs: map[string][]string{},
		t: t, tools: tools, next: firstPID,
	}}
}

// Do gives f the world, alone.
func (h *Host) Do(f func(w *World)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.world)
}

// Run implements host.Runner.
func (h *Host) Run(ctx context.Context, c host.Cmd) (stdout []byte, err error) {
	h.Do(func(w *World) { stdout, err = w.run(ctx, c) })
	return stdout, err
}

// Launch implements host.Launcher. A launched tool's function decides whether
// it starts; it lives until Exit.
func (h *Host) Launch(ctx context.Context, c host.Cmd, log string) (id host.ProcID, err error) {
	h.Do(func(w *World) {
		if _, err = w.run(ctx, c); err != nil {
			return
		}
		id = host.ProcID{PID: w.next, Started: uint64(w.next) * 10}
		w.next++
		w.Procs[id] = c
		w.Logs[log] = append(w.Logs[log], c.Tool)
	})
	return id, err
}

// Exit ends a process, by whatever cause.
func (h *Host) Exit(id host.ProcID) {
	h.Do(func(w *World) {
		if _, ok := w.Procs[id]; !ok {
			w.t.Errorf("process %d does not live", id.PID)
		}
		delete(w.Procs, id)
	})
}

// Calls returns what was run and launched, in order.
func (h *Host) Calls() (calls []string) {
	h.Do(func(w *World) { calls = slices.Clone(w.calls) })
	return calls
}

// String is the world as sorted text, a line for each thing.
func (h *Host) String() string {
	var lines []string
	h.Do(func(w *World) {
		for path, what := range w.Files {
			lines = append(lines, fmt.Sprintf("file %s: %s", path, what))
		}
		for id, c := range w.Procs {
			lines = append(lines, fmt.Sprintf("process %d: %s", id.PID, line(c)))
		}
		for log, tools := range w.Logs {
			lines = append(lines, fmt.Sprintf("log %s: %s", log, strings.Join(tools, ", ")))
		}
	})
	slices.Sort(lines)
	return strings.Join(append(lines, ""), "\n")
}

func (w *World) run(ctx context.Context, c host.Cmd) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", c.Tool, context.Cause(ctx))
	}
	w.calls = append(w.calls, line(c))
	if w.Fail != nil {
		if err := w.Fail(len(w.calls), c); err != nil {
			return nil, err
		}
	}
	tool := w.tools[c.Tool]
	if tool == nil {
		tool = func(*World, host.Cmd) ([]byte, error) { return nil, ErrUnknown }
	}
	out, err := tool(w, c)
	if errors.Is(err, ErrUnknown) {
		w.t.Errorf("the pretend host cannot do: %s", line(c))
	}
	return out, err
}

// line is a command as text; who runs it stands before it if it is not the daemon.
func line(c host.Cmd) string {
	s := strings.Join(append([]string{c.Tool}, c.Args...), " ")
	if c.Owner != nil {
		s = fmt.Sprintf("as %d: %s", c.Owner.UID, s)
	}
	return s
}
