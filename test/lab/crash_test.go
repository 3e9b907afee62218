package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banger/test/sandbox"
)

var only = flag.String("only", "", "a regular expression: kill at these points alone, OPERATION, POINT")

// The crash matrix (test/matrix) on Firecracker and device-mapper snapshots: a bangerd
// with the tag faults is killed at each point of an operation, and the next one finds
// what it left. Without LAB=full at the steps alone that differ from QEMU's.
func TestCrashInAStart(t *testing.T)  { crash(t, (*box).starts) }
func TestCrashInAnEnd(t *testing.T)   { crash(t, (*box).ends) }
func TestCrashOfADisk(t *testing.T)   { crash(t, (*box).disks) }
func TestCrashInADelete(t *testing.T) { crash(t, (*box).deletes) }

// crashLimit is longer than other scenarios': a guest is booted at each point, of which
// there may be thirty.
func crashLimit() time.Duration {
	if os.Getenv("LAB") == "full" {
		return 50 * time.Minute
	}
	return 20 * time.Minute
}

func crash(t *testing.T, f func(*box)) {
	scenarioWithin(t, crashLimit(), func(h *host) {
		b := &box{host: h, before: h.left()}
		b.build()
		f(b)
		h.as(dev, "banger rm --force one; banger daemon stop; sudo pkill -x banger-root; while pgrep -x banger-root; do sleep 0.2; done")
		if after := h.left(); after != b.before {
			h.Errorf("left:\n%s\nand before:\n%s", after, b.before)
		}
		h.Logf("report: lab: %s: bangerd killed at %d points, %d not tried (LAB=full)", h.Name(), b.tried, b.later)
	})
}

// What may be seen of the one VM.
const (
	absent  = "absent"
	stopped = "stopped"
	running = "running"
)

// A spot is a point of an operation: before or after a step or a write of the record.
type spot struct {
	Step  string `json:"step"`
	Phase string `json:"at"`
	nth   int    // from 1: the same is come to again
}

func (s spot) String() string { return fmt.Sprintf("%s %s %d", s.Phase, s.Step, s.nth) }

// A box is the installation of dev's, with one VM.
type box struct {
	*host
	before       string
	tried, later int

	mu   sync.Mutex
	seen []spot
	trap spot          // what is waited for
	hold bool          // the daemon stands there until it is killed
	hit  chan struct{} // closed when it came there; nil: nothing is waited for
}

// build puts a bangerd that asks in the place of the one that is installed.
func (b *box) build() {
	b.Helper()
	dir := b.TempDir()
	cmd := exec.CommandContext(b.ctx, filepath.Join(sandbox.Root(), "scripts/go"), "build", "-tags", "faults", "-o", dir, "./cmd/banger", "./cmd/bangerd")
	cmd.Dir, cmd.Env = sandbox.Root(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	b.put(root, "faults", dir)
	b.ok(root, "install -m 755 faults/banger faults/bangerd /usr/local/bin/") // a client of another build would end the daemon
	b.ok(dev, "sudo -n "+rootProgram)                                         // no client is told to start it
	b.listen()
}

// answer lets the daemon go on, or stand where it is to be killed.
func (b *box) answer(c net.Conn) {
	defer c.Close()
	var s spot
	if json.NewDecoder(c).Decode(&s) != nil || strings.HasPrefix(s.Phase, "limit") {
		fmt.Fprintln(c, "{}")
		return
	}
	b.mu.Lock()
	s.nth = 1
	for _, o := range b.seen {
		if o.Step == s.Step && o.Phase == s.Phase {
			s.nth++
		}
	}
	b.seen = append(b.seen, s)
	hold := false
	if s == b.trap && b.hit != nil {
		close(b.hit)
		hold, b.hit = b.hold, nil
	}
	b.mu.Unlock()
	if hold {
		_, _ = c.Read(make([]byte, 1)) // until it is killed
		return
	}
	fmt.Fprintln(c, "{}")
}

// up starts a bangerd and waits until it listens, its VM at rest or running.
func (b *box) up() {
	b.Helper()
	b.ok(dev, `BANGER_FAULTS=/home/dev/faults setsid bangerd </dev/null >/dev/null 2>&1 &
for i in $(seq 300); do banger daemon status >/dev/null 2>&1 && exit 0; sleep 0.1; done; exit 1`)
}

// kill ends bangerd by SIGKILL, and returns when it is gone.
func (b *box) kill() {
	b.Helper()
	b.ok(root, `pid=$(pgrep -x bangerd) && kill -9 $pid && while kill -0 $pid 2>/dev/null; do sleep 0.05; done`)
}

// state is what of the VM is there: the record's word, and what the kernel has.
func (b *box) state() (state, kernel string) {
	b.Helper()
	out := b.ok(dev, "banger vm list -o json")
	state = absent
	if _, after, ok := strings.Cut(strings.ReplaceAll(out, " ", ""), `"state":"`); ok {
		state, _, _ = strings.Cut(after, `"`)
	}
	return state, b.ok(root, `echo vmm $(pgrep -xc firecracker) taps $(ip -o link | grep -c ': bt') mapper $(dmsetup ls | grep -c ^banger-) loops $(losetup -a | wc -l) \
disks $(ls /home/dev/.local/state/banger/vms | wc -l) runs $(ls /run/user/1000/banger/vms 2>/dev/null | wc -l)`)
}

// worlds are what the kernel and the directories have of a VM in a state.
var worlds = map[string]string{
	absent:  "vmm 0 taps 0 mapper 0 loops 0 disks 0 runs 0",
	stopped: "vmm 0 taps 0 mapper 0 loops 0 disks 1 runs 0",
	running: "vmm 1 taps 1 mapper 2 loops 2 disks 1 runs 1",
}

// settle waits until the VM is in the state, and all of it is there and no more.
func (b *box) settle(want string) bool {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 3*time.Minute)
	defer cancel()
	for {
		state, kernel := b.state()
		if state == want && kernel == worlds[want] {
			return true
		}
		select {
		case <-ctx.Done():
			b.Errorf("the VM is %s (%s), and was to be %s (%s)", state, kernel, want, worlds[want])
			return false
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// expect returns what is closed when the daemon comes to a point, where it stands still
// if it is to be held; the points are counted from here.
func (b *box) expect(at spot, hold bool) (hit <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen, b.trap, b.hold, b.hit = nil, at, hold, make(chan struct{})
	return b.hit
}

// points are those that the daemon comes to while it does something unbroken.
func (b *box) points(script string) []spot {
	b.Helper()
	b.expect(spot{}, false)
	b.ok(dev, script)
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.seen)
}

// An operation is a command in which bangerd is killed.
type operation struct {
	name   string
	script string
	from   func()                          // brings the VM to where it begins
	meant  func(at spot, vmms bool) string // what the VM is to be afterwards
	differ func(spot) bool                 // where it differs from QEMU
}

// each kills bangerd at each point of the operation, or at those that differ.
func (b *box) each(o operation) {
	b.Helper()
	o.from()
	for _, at := range b.points(o.script) {
		if *only == "" && os.Getenv("LAB") != "full" && !o.differ(at) || !regexp.MustCompile(*only).MatchString(o.name+", "+at.String()) {
			b.later++
			continue
		}
		b.Logf("%s, %s", o.name, at)
		o.from()
		hit := b.expect(at, true)
		b.ok(dev, "("+o.script+") >/dev/null 2>&1 </dev/null &")
		b.await(hit, at.String())
		vmms := b.as(root, "pgrep -x firecracker").code == 0
		b.kill()
		b.expect(spot{}, false)
		b.up()
		b.tried++
		if want := o.meant(at, vmms); !b.settle(want) {
			b.Errorf("%s, killed %s", o.name, at)
			return
		}
	}
}

// steps are the points of these.
func steps(names ...string) func(spot) bool {
	return func(s spot) bool { return slices.Contains(names, s.Step) }
}

// launching are those at which the disk is attached and the VMM launched: the third
// write is the VMM's PID, and its guest is started after that.
func launching(s spot) bool {
	return steps("attach disk", "vmm")(s) || s.Step == "record" && s.nth == 3
}

const make1 = "banger vm create -q " + cheap + " --backend firecracker --no-start --name one"

// toStopped brings the VM there from whatever it is.
func (b *box) toStopped() {
	b.Helper()
	if b.as(dev, "banger daemon status").code != 0 {
		b.up()
	}
	switch state, _ := b.state(); state {
	case absent:
		b.ok(dev, make1)
	case stopped:
	default:
		b.ok(dev, "banger vm kill one || [ $(banger vm list -o json | grep -c '\"stopped\"') = 1 ]")
	}
	b.settle(stopped)
}

// toRunning brings it to where its VMM runs, and a daemon that has adopted it waits for
// its guest: that ends with whatever is wanted of the VM.
func (b *box) toRunning() {
	b.Helper()
	b.toStopped()
	launched := b.expect(spot{"vmm", "after ensure", 1}, true)
	b.ok(dev, "banger start -q one >/dev/null 2>&1 </dev/null &")
	b.await(launched, "a launch")
	b.kill()
	waits := b.expect(spot{"guest", "before ensure", 1}, false)
	b.up()
	b.await(waits, "the wait for the guest")
	b.settle(running)
}

func (b *box) await(hit <-chan struct{}, what string) {
	b.Helper()
	select {
	case <-hit:
	case <-b.ctx.Done():
		b.Fatalf("bangerd does not come to %s: %v", what, context.Cause(b.ctx))
	}
}

// starts: whoever finds a VMM goes on with it, or begins again; without one it is over.
func (b *box) starts() {
	b.each(operation{
		name: "start", script: "banger start -q one", from: b.toStopped, differ: launching,
		meant: func(_ spot, vmms bool) string {
			if vmms {
				return running
			}
			return stopped
		},
	})
}

func (b *box) ends() {
	b.each(operation{
		name: "kill", script: "banger vm kill -q one", from: b.toRunning, differ: steps("attach disk", "vmm"),
		meant: func(at spot, _ bool) string {
			if at == (spot{"record", "before write", 1}) {
				return running // nobody has said that it is not to
			}
			return stopped
		},
	})
}

func (b *box) disks() {
	b.each(operation{
		name: "reset", script: "banger vm reset -q one", from: b.toStopped, differ: steps("root disk"),
		meant: func(spot, bool) string { return stopped },
	})
	b.ok(dev, "banger rm -q one")
	last := spot{"record", "after write", 0}
	for _, at := range b.points(make1) {
		if at.Step == last.Step && at.Phase == last.Phase {
			last.nth = at.nth
		}
	}
	b.each(operation{
		name: "create", script: make1, from: func() { b.ok(dev, "banger rm -q --force one 2>/dev/null; exit 0"); b.settle(absent) }, differ: steps("root disk"),
		meant: func(at spot, _ bool) string {
			if at == last {
				return stopped
			}
			return absent
		},
	})
}

func (b *box) deletes() {
	b.each(operation{
		name: "delete", script: "banger rm -q --force one", from: b.toRunning, differ: steps("attach disk", "vmm", "root disk"),
		meant: func(at spot, _ bool) string {
			if at == (spot{"record", "before write", 1}) {
				return running
			}
			return absent
		},
	})
}
