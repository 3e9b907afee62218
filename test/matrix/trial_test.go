package matrix

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banger"
	"banger/internal/api/client"
	"banger/internal/guestapi"
)

type op = *client.Op[banger.VM]

// A trial is one cell of the matrix.
type trial struct {
	operation
	at    point
	nth   int // of the points that banger-root passes, from 1; 0: at is the daemon's
	fault fault
}

func (c trial) String() string { return fmt.Sprintf("%s/%s/%s", c.name, c.at, c.fault) }

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
