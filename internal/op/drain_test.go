package op_test

import (
	"context"
	"errors"
	"testing"

	"banger"
	"banger/internal/op"
)

// Drain lets what runs end, and nothing new begin.
func TestDrain(t *testing.T) {
	m, _ := manager()
	rest := make(chan struct{})
	id := start(t, m, func(ctx context.Context, _ *op.Reporter) (any, error) {
		<-rest
		return nil, ctx.Err()
	})
	drained := make(chan error)
	go func() { drained <- m.Drain(t.Context()) }()
	refused := func() bool {
		extra, err := m.Start("vm.start", "web", func(context.Context, *op.Reporter) (any, error) { return nil, nil })
		if err == nil {
			follow(t, m, extra, 0) // Drain had not begun
			return false
		}
		if banger.CodeOf(err) != banger.Busy {
			t.Errorf("err = %v", err)
		}
		return true
	}
	for !refused() {
	}
	close(rest)
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if got := text(follow(t, m, id, 0)); got != "done <nil>\n" {
		t.Errorf("got %s", got)
	}
	if l := m.List(); len(l) != 0 {
		t.Errorf("left: %v", l)
	}
	if err := m.Drain(t.Context()); err != nil { // idempotent
		t.Error(err)
	}
}

// When the patience ends, what is left is cancelled and still waited for.
func TestDrainCancels(t *testing.T) {
	m, _ := manager()
	undone := false
	id := start(t, m, func(ctx context.Context, _ *op.Reporter) (any, error) {
		<-ctx.Done()
		undone = true
		return nil, context.Cause(ctx)
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	if !undone {
		t.Error("Drain did not wait for the operation's undo")
	}
	if got := text(follow(t, m, id, 0)); got != "failed canceled: canceled\n" {
		t.Errorf("got %s", got)
	}
}
