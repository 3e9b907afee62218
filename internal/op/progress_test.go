package op_test

import (
	"context"
	"testing"
	"time"

	"banger"
	"banger/internal/op"
)

// However often progress is reported, few events come of it: the first, one
// per hundredth and not within a tenth of a second, and the last.
func TestProgressIsCoalesced(t *testing.T) {
	const total = 1 << 30
	for name, c := range map[string]struct {
		step, total int64
		every       time.Duration
		least, most int
	}{
		"known total, fast": {1 << 10, total, time.Microsecond, 10, 13},
		"known total, slow": {1 << 10, total, 10 * time.Millisecond, 95, 101},
		"unknown total":     {1 << 10, 0, 10 * time.Millisecond, 50, 350},
		"few items":         {1 << 26, total, time.Second, 16, 17},
	} {
		t.Run(name, func(t *testing.T) {
			m, clock := manager()
			id := start(t, m, func(_ context.Context, r *op.Reporter) (any, error) {
				for done := int64(0); done <= total; done += c.step {
					r.Progress("copy", done, c.total)
					clock.move(c.every)
				}
				return nil, nil
			})
			all := follow(t, m, id, 0)
			if n := len(all) - 1; n < c.least || n > c.most {
				t.Errorf("%d events, want %d to %d", n, c.least, c.most)
			}
			if last := all[len(all)-2]; c.total > 0 && last.Done != total {
				t.Errorf("the last progress is %d", last.Done)
			}
		})
	}
}

// Steps that go on at once each have a progress of their own.
func TestProgressOfTwoSteps(t *testing.T) {
	m, _ := manager()
	id := start(t, m, func(_ context.Context, r *op.Reporter) (any, error) {
		for i := range int64(3) {
			r.Progress("a", i, 2)
			r.Progress("b", i, 4)
		}
		r.Progress("a", 2, 2) // nothing new
		return nil, nil
	})
	if got := text(follow(t, m, id, 0)); got != "progress a 0/2\nprogress b 0/4\nprogress a 2/2\ndone <nil>\n" {
		t.Errorf("got\n%s", got)
	}
}

// An operation that reports without end fills no memory, and its end is told.
func TestEventsAreBounded(t *testing.T) {
	m, _ := manager()
	id := start(t, m, func(_ context.Context, r *op.Reporter) (any, error) {
		for i := range 100_000 {
			r.Message("line %d", i)
		}
		return "result", nil
	})
	all := follow(t, m, id, 0)
	if n := len(all); n != 4096+2 || all[n-1].Type != banger.EventDone || all[n-1].Result != "result" {
		t.Errorf("%d events, the last %+v", n, all[n-1])
	}
}

// What an operation left running cannot report past its end.
func TestReportAfterEnd(t *testing.T) {
	m, _ := manager()
	var late *op.Reporter
	id := start(t, m, func(_ context.Context, r *op.Reporter) (any, error) { late = r; return nil, nil })
	follow(t, m, id, 0)
	late.Message("late")
	if got := text(follow(t, m, id, 0)); got != "done <nil>\n" {
		t.Errorf("got %s", got)
	}
}
