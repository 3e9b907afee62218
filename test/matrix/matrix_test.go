package matrix

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"banger"
	"banger/internal/api/client"
	"banger/internal/guestapi"
	"banger/internal/vm"
)

var update = flag.Bool("update", false, "rewrite testdata from what is seen; then read the difference")

var only = flag.String("only", "", "a regular expression: try these cases alone, OPERATION/POINT/FAULT")

// workers is how many cases are tried at a time.
const workers = 2

type op = *client.Op[banger.VM]

// A trial is one cell of the matrix.
type trial struct {
	operation
	at    point
	nth   int // of the points that banger-root passes, from 1; 0: at is the daemon's
	fault fault
}

func (c trial) String() string { return fmt.Sprintf("%s/%s/%s", c.name, c.at, c.fault) }

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

// injected is the error of a step that fails.
const injected = "injected fault"

// run does an operation with its fault, and returns what its client was told.
func (b *box) run(c trial) error {
	b.t.Helper()
	if c.prepare != nil {
		c.prepare(b)
	}
	started := make(chan op, 1)
	struck := newTrap(c.at, func() (answer, bool) { return b.strike(c, started) })
	var traps []*trap
	if c.at != "" && c.nth == 0 {
		traps = append(traps, struck)
	}
	if c.fails != "" {
		traps = append(traps, newTrap(c.fails, func() (answer, bool) {
			b.arm(c.nth, rootFaults[c.fault])
			return answer{Fail: injected + " before"}, true
		}))
	} else {
		b.arm(c.nth, rootFaults[c.fault])
	}
	var lateAt point
	if c.fault == late {
		lateAt = c.at
	}
	b.faults.watch(lateAt, traps...)
	var err error
	switch {
	case c.begin != nil:
		var o op
		if o, err = c.begin(b)(); err == nil {
			started <- o
			_, err = o.Wait(b.ctx(), nil)
		}
	case c.provoke != nil:
		err = b.provoked(c)
	default:
		b.launch()
	}
	if c.at != "" && c.nth == 0 {
		b.await(struck.hit, "the daemon to come to "+string(c.at))
	}
	if c.begin == nil && c.nth > 0 {
		b.eventually("banger-root comes to "+string(c.at), b.rootStruck)
	}
	if c.begin == nil && c.fault != killed {
		b.byItself(c)
	}
	if c.nth > 0 {
		b.disarm(c)
	}
	if c.fault == passtFails {
		b.letPasst()
	}
	return err
}

// byItself waits for the end of what the daemon does without being asked.
func (b *box) byItself(c trial) {
	if c.fault == canceled {
		b.await(b.ended, "the daemon to end")
		b.cmd = nil
		return
	}
	b.listening()
	b.settle()
}

// provoked provokes what the daemon is to do by itself. Unless it is broken, it
// is awaited: it is seen by the run that is recorded.
func (b *box) provoked(c trial) error {
	before, err := b.launchID()
	if err != nil {
		return err
	}
	c.provoke(b)
	if c.at == "" {
		b.eventually("the guest's end is seen", func() error {
			now, err := b.launchID()
			if err == nil && now == before {
				err = errors.New("the same run")
			}
			return err
		})
	}
	return nil
}

// launchID is the one that is recorded, "" if the VM does not run.
func (b *box) launchID() (string, error) {
	vms, _, err := b.rows()
	if err != nil || len(vms) == 0 || vms[0].run == "" {
		return "", err
	}
	var run banger.Run
	err = json.Unmarshal([]byte(vms[0].run), &run)
	return run.Launch, err
}

// strike is called while the daemon stands at the point.
func (b *box) strike(c trial, started chan op) (answer, bool) {
	switch c.fault {
	case failsHere:
		return answer{Fail: injected}, true
	case killed:
		b.kill()
		return answer{}, false
	case rootKilled, rootGone:
		b.killRoot()
	case passtFails:
		b.forbidPasst()
	case passtDies:
		for _, p := range b.passts() {
			b.killProcess(p.pid)
		}
	case canceled:
		if c.begin == nil {
			b.terminate()
		} else if err := (<-started).Cancel(b.ctx()); err != nil {
			b.t.Error(err)
		}
	}
	return answer{}, true
}

// meant says what the VM should be after the next start: what was recorded,
// and whether its VMM lives. No daemon runs.
func (b *box) meant() string {
	b.t.Helper()
	vms, _, err := b.rows()
	if err != nil {
		b.t.Fatal(err)
	}
	if len(vms) == 0 {
		return absent
	}
	v := vms[0]
	switch {
	case v.intent == "creating" || v.intent == "deleting":
		return absent
	case v.intent == "resetting":
		return "stopped" // with a new disk: there is no way back
	case v.intent == "running" && v.run != "":
		launch, err := b.launchID()
		if err != nil {
			b.t.Fatal(err)
		}
		// What the guest last said of its own end goes before that its VMM lives.
		console, err := os.ReadFile(filepath.Join(b.State, "vms", v.id, "serial.log"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			b.t.Fatal(err)
		}
		said := guestapi.ParseExitMarker(string(console), launch)
		lives := slices.ContainsFunc(b.vmms(), func(p process) bool {
			return strings.Contains(strings.Join(p.argv, " "), launch)
		})
		if lives && said == "" && b.stack == stackPasst && len(b.passts()) == 0 {
			return cut // it is left to whoever uses it
		}
		if said == "reboot" || lives && said == "" {
			return "running"
		}
		return "stopped" // what was wrong with a run that is over is no problem any more
	}
	if v.problem != "" {
		return "error"
	}
	return "stopped"
}
