package vm_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"banger"
	"banger/internal/steps"
	"banger/internal/vm"
)

var update = flag.Bool("update", false, "write the diagram of docs/architecture.md anew")

// The diagram in docs/architecture.md is what happens: it is drawn out of a life that
// was led here, and of one that failed at each step.
func TestDiagram(t *testing.T) {
	const page = "../../docs/architecture.md"
	const begin, end = "```mermaid\nstateDiagram-v2\n", "```\n"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	have, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no diagram", page)
	}
	want := diagram(t)
	if *update {
		if err := os.WriteFile(page, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have != want {
		t.Errorf("%s has\n%s\nand what happens is\n%s\nscripts/go test ./internal/vm -run TestDiagram -args -update", page, have, want)
	}
}

// diagram draws a VM's life from its creation to its deletion.
func diagram(t *testing.T) string {
	t.Helper()
	all := vm.Steps()
	var lines []string
	for _, s := range all {
		lines = append(lines, fmt.Sprintf("state %q as %s", s, alias("ensure "+s)))
	}
	for _, s := range all {
		lines = append(lines, fmt.Sprintf("state %q as %s", "release "+s, alias("release "+s)))
	}
	edge := func(from, to string, labels ...string) {
		line := alias(from) + " --> " + alias(to)
		if len(labels) > 0 {
			line += " : " + strings.Join(slices.Compact(labels), ", ")
		}
		lines = append(lines, line)
	}
	// walk draws a part of the life between two states at rest.
	walk := func(from, to string, events []string) {
		var labels []string
		for _, e := range events {
			if record, ok := strings.CutPrefix(e, "record "); ok {
				labels = append(labels, record)
				continue
			}
			edge(from, e, labels...)
			from, labels = e, nil
		}
		edge(from, to, labels...)
	}
	life := newTrace()
	w := newWorld(t)
	w.configure = life.configure
	m := w.manager(nil)
	do := func(from, to string, what func() error) {
		t.Helper()
		if err := what(); err != nil {
			t.Fatal(err)
		}
		walk(from, to, life.take())
	}
	do("[*]", "stopped", func() error {
		_, err := m.Create(t.Context(), vm.Create{Name: ptr("web"), NoStart: true}, quiet{})
		return err
	})
	do("stopped", "running", func() error { _, err := m.Start(t.Context(), "web", quiet{}); return err })
	do("running", "stopped", func() error { _, err := m.Stop(t.Context(), "web", nil, quiet{}); return err })
	do("stopped", "[*]", func() error { _, err := m.Delete(t.Context(), "web", false, quiet{}); return err })
	for _, s := range all {
		edge("ensure "+s, "release "+s, "fails")
		if got := failing(t, s); got[0] != "release "+s {
			t.Errorf("after %s has failed comes %q", s, got)
		}
	}
	return "    " + strings.Join(lines, "\n    ") + "\n"
}

// failing returns what a create that fails at a step does from there on.
func failing(t *testing.T, step string) []string {
	t.Helper()
	trace := newTrace()
	w := newWorld(t)
	w.configure = func(c *vm.Config) {
		trace.configure(c)
		c.Hook = func(id banger.VMID, s string, at steps.Phase) error {
			if s == step && at == steps.AfterEnsure {
				trace.take()
				return errBoom
			}
			return trace.hook(id, s, at)
		}
	}
	if _, err := w.manager(nil).Create(t.Context(), vm.Create{Name: ptr("web")}, quiet{}); err == nil {
		t.Errorf("%s did not fail", step)
	}
	return append(trace.take(), "nothing")
}

func alias(state string) string {
	return strings.ReplaceAll(strings.TrimPrefix(state, "ensure "), " ", "_")
}

// A trace is what a Manager does: steps that it begins, and what of a record it writes.
type trace struct {
	mu     sync.Mutex
	events []string
}

func newTrace() *trace { return &trace{} }

func (t *trace) configure(c *vm.Config) { c.Store, c.Hook = traced{c.Store, t}, t.hook }

func (t *trace) add(e string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, e)
}

// take returns what happened since it was last called.
func (t *trace) take() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.events
	t.events = nil
	return e
}

func (t *trace) hook(_ banger.VMID, step string, at steps.Phase) error {
	if verb, ok := strings.CutPrefix(string(at), "before "); ok {
		t.add(verb + " " + step)
	}
	return nil
}

// traced is a store of which it is known what was written.
type traced struct {
	vm.Store
	t *trace
}

func (s traced) CreateVM(ctx context.Context, r banger.Record, lease func([]banger.Lease) (banger.Lease, error)) (banger.Record, error) {
	s.t.add("record " + string(r.Intent))
	s.t.add("record spec and lease")
	return s.Store.CreateVM(ctx, r, lease)
}

func (s traced) DeleteVM(ctx context.Context, id banger.VMID) error {
	s.t.add("record is deleted")
	return s.Store.DeleteVM(ctx, id)
}

func (s traced) UpdateVM(ctx context.Context, id banger.VMID, change func(*banger.Record) error) (banger.Record, error) {
	return s.Store.UpdateVM(ctx, id, func(r *banger.Record) error {
		was := *r
		if r.Run != nil {
			run := *r.Run
			was.Run = &run
		}
		err := change(r)
		for _, what := range changes(was, *r) {
			s.t.add("record " + what)
		}
		return err
	})
}

// changes names what of a record became another.
func changes(was, now banger.Record) (names []string) {
	say := func(changed bool, name string) {
		if changed {
			names = append(names, name)
		}
	}
	say(was.Intent != now.Intent, string(now.Intent))
	say(was.Run == nil && now.Run != nil, "launch ID")
	say(was.Run != nil && now.Run == nil, "no run")
	say(!reflect.DeepEqual(was.LastExit, now.LastExit), "how it ended")
	say(!reflect.DeepEqual(was.Problem, now.Problem), "problem")
	if was.Run == nil || now.Run == nil {
		return names
	}
	say(!reflect.DeepEqual(was.Run.Endpoint, now.Run.Endpoint), "endpoint")
	say(!reflect.DeepEqual(was.Run.Handle, now.Run.Handle), "VMM's PID")
	say(was.Run.ReadyAt != now.Run.ReadyAt, "ready")
	return names
}
