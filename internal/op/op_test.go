package op_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger"
	"banger/internal/op"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A clock stands still until it is moved.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func manager() (*op.Manager, *clock) {
	c := &clock{t: time.Unix(1_700_000_000, 0).UTC()}
	return op.New(slog.New(slog.DiscardHandler), c.now), c
}

func start(t *testing.T, m *op.Manager, fn op.Func) string {
	t.Helper()
	id, err := m.Start("vm.create", "web", fn)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// follow reads all events from number from on and checks their numbers.
func follow(t *testing.T, m *op.Manager, id string, from int) (all []banger.Event) {
	t.Helper()
	for e, err := range m.Events(t.Context(), id, from) {
		if err != nil {
			t.Error(err)
			break
		}
		if e.N != from+len(all) {
			t.Errorf("event %d has number %d", from+len(all), e.N)
		}
		all = append(all, e)
	}
	return all
}

func text(all []banger.Event) string {
	var b strings.Builder
	for _, e := range all {
		fmt.Fprintf(&b, "%s %s%s", e.Type, e.Step, e.Message)
		switch e.Type {
		case banger.EventProgress:
			fmt.Fprintf(&b, " %d/%d", e.Done, e.Total)
		case banger.EventStepDone:
			fmt.Fprintf(&b, " %s", e.Elapsed)
		case banger.EventDone:
			fmt.Fprintf(&b, "%v", e.Result)
		case banger.EventFailed:
			fmt.Fprintf(&b, "%s: %s", e.Error.Code, e.Error.Message)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Whenever a client attaches, from whatever number, it sees the same events.
func TestFollow(t *testing.T) {
	m, _ := manager()
	half, rest := make(chan struct{}), make(chan struct{})
	id := start(t, m, func(_ context.Context, r *op.Reporter) (any, error) {
		r.Step("disk")
		r.Progress("disk", 1, 4)
		close(half)
		<-rest
		r.StepDone("disk", 3*time.Millisecond)
		r.Message("hello %s", "web")
		return "result", nil
	})
	const want = "step disk\nprogress disk 1/4\nstepdone disk 3ms\nmessage hello web\ndone result\n"
	<-half
	var wg sync.WaitGroup
	for from := range 5 {
		wg.Go(func() {
			if got := text(follow(t, m, id, from)); got != strings.Join(strings.SplitAfter(want, "\n")[from:], "") {
				t.Errorf("from %d:\n%s", from, got)
			}
		})
	}
	close(rest)
	wg.Wait()
	if got := text(follow(t, m, id, 0)); got != want {
		t.Errorf("afterwards:\n%s", got)
	}
	if got := follow(t, m, id, 99); len(got) != 0 {
		t.Errorf("from beyond the end: %v", got)
	}
}

// A follower that goes away, in either way, does not touch the operation.
func TestFollowersLeave(t *testing.T) {
	m, _ := manager()
	rest := make(chan struct{})
	id := start(t, m, func(ctx context.Context, r *op.Reporter) (any, error) {
		r.Step("disk")
		<-rest
		return nil, ctx.Err()
	})
	for e := range m.Events(t.Context(), id, 0) {
		if e.N == 0 {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range m.Events(ctx, id, 0) {
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("err = %v", last)
	}
	close(rest)
	if got := text(follow(t, m, id, 1)); got != "done <nil>\n" {
		t.Errorf("got %s", got)
	}
}

func TestFailure(t *testing.T) {
	m, _ := manager()
	id := start(t, m, func(context.Context, *op.Reporter) (any, error) {
		return nil, fmt.Errorf("create: %w", banger.Errorf(banger.NotFound, "no image %q", "x").WithRemedy("banger image list"))
	})
	all := follow(t, m, id, 0)
	want := &banger.Error{Code: banger.NotFound, Message: `create: no image "x"`, Remedy: "banger image list"}
	got := all[len(all)-1].Error
	got.Err = nil
	if len(all) != 1 || *got != *want {
		t.Errorf("%+v", got)
	}
}

// One operation's panic, or Goexit, is its own failure: logged with the stack.
func TestPanic(t *testing.T) {
	for name, c := range map[string]struct {
		fn   op.Func
		word string
	}{
		"panic":  {func(context.Context, *op.Reporter) (any, error) { panic("lost my head") }, "lost my head"},
		"goexit": {func(context.Context, *op.Reporter) (any, error) { runtime.Goexit(); return nil, nil }, "broke off"},
		"nil":    {func(context.Context, *op.Reporter) (any, error) { var p *int; return *p, nil }, "nil pointer"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			m := op.New(slog.New(slog.NewJSONHandler(&log, nil)), time.Now)
			id := start(t, m, c.fn)
			e := follow(t, m, id, 0)[0]
			if e.Error == nil || e.Error.Code != banger.Internal || !strings.Contains(e.Error.Message, c.word) {
				t.Errorf("%+v", e.Error)
			}
			if err := m.Drain(t.Context()); err != nil { // the log is whole
				t.Error(err)
			}
			if !strings.Contains(log.String(), "op_test.go") {
				t.Errorf("no stack in the log:\n%s", &log)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	m, _ := manager()
	id := start(t, m, func(ctx context.Context, _ *op.Reporter) (any, error) {
		<-ctx.Done()
		if !op.Canceled(ctx) {
			t.Error("not told that the user cancelled it")
		}
		return nil, context.Cause(ctx)
	})
	if l := m.List(); len(l) != 1 || l[0].ID != id || l[0].Kind != "vm.create" || l[0].Subject != "web" {
		t.Errorf("list %+v", l)
	}
	if err := m.Cancel(id); err != nil {
		t.Fatal(err)
	}
	if got := text(follow(t, m, id, 0)); got != "failed canceled: canceled\n" {
		t.Errorf("got %s", got)
	}
	if err := m.Cancel(id); err != nil { // it has ended: nothing to do
		t.Error(err)
	}
	if err := m.Cancel("nosuch"); banger.CodeOf(err) != banger.NotFound {
		t.Errorf("err = %v", err)
	}
}

func TestUnknown(t *testing.T) {
	m, _ := manager()
	id := start(t, m, func(context.Context, *op.Reporter) (any, error) { return nil, nil })
	follow(t, m, id, 0)
	for ref, want := range map[string]banger.Code{"nosuch": banger.NotFound, id: banger.Invalid} {
		n := 0
		for _, err := range m.Events(t.Context(), ref, -1) {
			if n++; banger.CodeOf(err) != want {
				t.Errorf("%s: %v", ref, err)
			}
		}
		if n != 1 {
			t.Errorf("%s: %d pairs", ref, n)
		}
	}
}

// Results can be had for a while: of the last 256 operations that ended.
func TestFinishedAreKept(t *testing.T) {
	m, _ := manager()
	var ids []string
	for i := range 300 {
		id := start(t, m, func(context.Context, *op.Reporter) (any, error) { return i, nil })
		follow(t, m, id, 0)
		for len(m.List()) > 0 { // its end is told a moment before it is noted
		}
		ids = append(ids, id)
	}
	if err := m.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		var got error
		for _, got = range m.Events(t.Context(), id, 0) {
		}
		if kept := got == nil; kept != (i >= 300-256) {
			t.Errorf("operation %d: kept %v", i, kept)
		}
	}
}

// An event is JSON on the wire, whatever the result is.
func TestEventsAreJSON(t *testing.T) {
	m, _ := manager()
	id := start(t, m, func(context.Context, *op.Reporter) (any, error) { return banger.VM{ID: "0badcafe"}, nil })
	if b, err := json.Marshal(follow(t, m, id, 0)[0]); err != nil || !strings.Contains(string(b), `"id":"0badcafe"`) {
		t.Errorf("%s %v", b, err)
	}
}
