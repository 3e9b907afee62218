package matrix

import (
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"banger/internal/vm"
)

var update = flag.Bool("update", false, "rewrite testdata from what is seen; then read the difference")

var only = flag.String("only", "", "a regular expression: try these cases alone, OPERATION/POINT/FAULT")

// workers is how many cases are tried at a time.
const workers = 2

// A sheet is a part of the matrix: testdata/NAME.rows.
type sheet struct {
	name string
	setup
	wanted   func(trial) bool
	everyday func(trial) bool // without BANGER_TEST_LONG, too; nil: all are
}

// TestSteps breaks every step of every operation, with a stand-in for the VMM.
func TestSteps(t *testing.T) {
	matrix(t, sheet{name: "steps", setup: standIns, wanted: func(trial) bool { return true }})
}

// TestStepsOfGuests breaks again what has to do with a VMM and its guest, with
// real ones.
func TestStepsOfGuests(t *testing.T) {
	s := standIns
	s.real = true
	matrix(t, sheet{name: "guests", setup: s, wanted: func(c trial) bool {
		return c.real && (c.at.step() == "vmm" || c.at.step() == "guest")
	}})
}

func matrix(t *testing.T, s sheet) {
	build(t)
	trials := slices.DeleteFunc(plan(t, s.setup), func(c trial) bool { return !s.wanted(c) })
	if *only != "" {
		trials = slices.DeleteFunc(trials, func(c trial) bool { return !regexp.MustCompile(*only).MatchString(c.String()) })
	}
	table := readTable(t, s.name)
	table.plan(trials)
	if s.everyday != nil && *only == "" && os.Getenv("BANGER_TEST_LONG") == "" {
		all := len(trials)
		trials = slices.DeleteFunc(trials, func(c trial) bool {
			later := !s.everyday(c)
			if later {
				table.later(c)
			}
			return later
		})
		t.Logf("report: %s: SKIPPED %d of %d cases: they are made with BANGER_TEST_LONG=1", s.name, all-len(trials), all)
	}
	todo := make(chan trial)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			var b *box
			for c := range todo {
				ok := t.Run(c.String(), func(t *testing.T) {
					outcome := ""
					defer func() { table.end(t, c, outcome) }()
					if b == nil {
						b = newBoxOf(t, s.setup, func(*box) {})
					}
					b.t = t
					outcome = b.try(c)
				})
				if b != nil && !ok { // whatever is left of it is nobody else's
					b.close()
					b = nil
				}
			}
			if b != nil {
				b.t = t
				if err := b.close(); err != nil {
					t.Errorf("the installation did not end clean: %v", err)
				}
			}
		})
	}
	for _, c := range trials {
		todo <- c
	}
	close(todo)
	wg.Wait()
	table.finish(t, s.name)
}

// plan does every operation once without a fault, and makes the trials out of
// the points that the daemon comes to, and banger-root. Guests are planned with
// the stand-in: their steps are the same.
func plan(t *testing.T, of setup) (trials []trial) {
	faultsOf := of.faultsAt
	if of.real {
		of = standIns
	}
	b := newBoxOf(t, of, func(*box) {})
	seen := map[string]bool{}
	for _, o := range operations {
		b.t = t
		b.up()
		b.bring(o.needs)
		b.startRoot()
		if err := b.compare(o.needs); err != nil { // then all cases would say so
			t.Errorf("before anything is broken: %v", err)
			b.close()
			t.FailNow()
		}
		b.run(trial{operation: o})
		points := b.faults.seen()
		if o.fails != "" {
			points = points[slices.Index(points, o.fails)+1:]
		}
		passed := b.rootPoints()
		b.settle()
		done := map[point]bool{}
		for _, p := range points {
			if !done[p] {
				for _, f := range faultsOf(p) {
					trials = append(trials, trial{operation: o, at: p, fault: f})
				}
			}
			done[p] = true
			seen[p.step()] = true
		}
		for i, p := range passed {
			for _, f := range rootFaultsAt(p) {
				trials = append(trials, trial{operation: o, at: p, nth: i + 1, fault: f})
			}
		}
	}
	b.t = t
	if err := b.close(); err != nil {
		t.Error(err)
	}
	for _, name := range vm.Steps() {
		if !seen[name] {
			t.Errorf("no operation of the matrix comes to the step %s", name)
		}
	}
	return trials
}

// try breaks an operation, and returns what has become of the VM once the next
// daemon has started.
func (b *box) try(c trial) (outcome string) {
	t := b.t
	b.up()
	b.bring(c.needs)
	b.startRoot()
	if c.fault == rootGone {
		b.end()
		b.rootless = true
		b.up()
		b.settle()
	}
	if err := b.compare(c.needs); err != nil {
		t.Fatalf("before: %v", err)
	}
	defer func() {
		if t.Failed() {
			t.Log(b.logTail())
		}
	}()
	err := b.run(c)
	if c.fault == failsHere && c.begin != nil && (err == nil || !strings.Contains(err.Error(), injected) && c.fails == "") {
		t.Errorf("the step failed, and the client was told %v", err)
	}
	if undone := !c.forward && c.fault != killed && c.fault != passtDies && b.cmd != nil && strings.HasSuffix(c.at.phase(), "ensure"); undone {
		// What was begun is undone at once, not only by the next daemon.
		if err := b.compare(b.settle()); err != nil {
			t.Errorf("after the operation: %v", err)
		}
	}
	b.end()
	meant := b.meant()
	b.faults.watch("")
	b.up()
	outcome = b.settle()
	if outcome != meant {
		t.Errorf("the VM is %s, and was meant to be %s", outcome, meant)
	}
	if c.fault == rootGone {
		b.leftUntilRoot()
	}
	if err := b.compare(outcome); err != nil {
		t.Errorf("after the next start: %v", err)
	}
	if c.fault == rootGone {
		b.end()
		b.rootless = false
		b.up()
	}
	if !b.real && (outcome == "stopped" || outcome == "error") {
		b.do(b.start) // it can be used as if nothing had been
	}
	return outcome
}
