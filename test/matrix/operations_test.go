package matrix

import (
	"encoding/json"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"banger"
	"banger/internal/guest"
	"banger/internal/steps"
	"banger/internal/vm"
)

// An operation is one way in which the daemon changes a VM.
type operation struct {
	name   string
	method string // of vm.Manager that it stands for
	needs  string // the VM's state before it
	// prepare, if not nil, leaves a daemon that was killed: the operation is
	// what the next one does at its start.
	prepare func(*box)
	// begin is nil where the daemon does it by itself.
	begin func(*box) begin
	// provoke, if not nil, makes the daemon do it by itself.
	provoke func(*box)
	// real says that the operation is broken with real guests, too.
	real bool
	// forward says that what fails is not undone, but done by the next daemon.
	forward bool
	// fails is a point that fails before the points that count: what is broken
	// is the undoing.
	fails point
}

// operations are all that there are. A step of one has its cases by itself; a
// new operation is told by TestEveryOperation.
var operations = []operation{
	{name: "create", method: "Create", needs: absent, begin: func(b *box) begin { return b.create(false) }},
	{name: "create, undone", method: "Create", needs: absent, fails: "before ensure guest", begin: func(b *box) begin { return b.create(false) }},
	{name: "start", real: true, method: "Start", needs: "stopped", begin: func(b *box) begin { return b.start }},
	{name: "start, undone", method: "Start", needs: "stopped", fails: "before ensure guest", begin: func(b *box) begin { return b.start }},
	{name: "stop", real: true, method: "Stop", needs: "running", begin: func(b *box) begin { return b.stop }},
	{name: "kill", method: "Kill", needs: "running", begin: func(b *box) begin { return b.killVM }},
	{name: "restart", real: true, method: "Restart", needs: "running", begin: func(b *box) begin { return b.restart }},
	{name: "reset", forward: true, method: "Reset", needs: "stopped", begin: func(b *box) begin { return b.reset }},
	{name: "delete, stopped", method: "Delete", needs: "stopped", begin: func(b *box) begin { return b.delete }},
	{name: "delete, running", real: true, method: "Delete", needs: "running", begin: func(b *box) begin { return b.delete }},
	{name: "guest reboots", real: true, method: "Reconcile", needs: "running", provoke: func(b *box) { b.tellGuest("reboot") }},
	{name: "guest powers off", method: "Reconcile", needs: "running", provoke: func(b *box) { b.tellGuest("poweroff") }},
	{name: "reconcile: runs", real: true, method: "Reconcile", needs: "running", prepare: (*box).kill},
	{name: "reconcile: VMM gone", method: "Reconcile", needs: "running", prepare: (*box).killBoth},
	{name: "reconcile: half started", method: "Reconcile", needs: "stopped", prepare: diesAt("before ensure guest", (*box).start)},
	{name: "reconcile: half stopped", method: "Reconcile", needs: "running", prepare: diesAt("before release guest", (*box).stop)},
	{name: "reconcile: half deleted", method: "Reconcile", needs: "running", prepare: diesAt("before release guest", (*box).delete)},
	{name: "reconcile: half reset", forward: true, method: "Reconcile", needs: "stopped", prepare: diesAt("before release root disk", (*box).reset)},
	{name: "reconcile: half created", method: "Reconcile", needs: absent, prepare: diesAt("after ensure work disk", func(b *box) (op, error) { return b.create(false)() })},
}

// TestEveryOperation fails for an operation of the code's that has no cases:
// whatever of a Manager reports steps.
func TestEveryOperation(t *testing.T) {
	covered := map[string]bool{}
	for _, o := range operations {
		covered[o.method] = true
	}
	manager, reporter := reflect.TypeFor[*vm.Manager](), reflect.TypeFor[vm.Reporter]()
	for i := range manager.NumMethod() {
		m := manager.Method(i)
		for j := range m.Type.NumIn() {
			if m.Type.In(j) == reporter && !covered[m.Name] {
				t.Errorf("vm.Manager.%s changes VMs, and no operation of the matrix does it", m.Name)
			}
		}
		delete(covered, m.Name)
	}
	for name := range covered {
		t.Errorf("operations name %s, which vm.Manager does not have", name)
	}
}

// diesAt prepares a daemon that was killed in the middle of an operation.
func diesAt(at point, begin func(*box) (op, error)) func(*box) {
	return func(b *box) {
		trap := newTrap(at, func() (answer, bool) { b.kill(); return answer{}, false })
		b.faults.watch("", trap)
		if _, err := begin(b); err != nil {
			b.t.Fatal(err)
		}
		b.await(trap.hit, "the daemon to come to "+string(at))
	}
}

// killBoth ends the daemon, then the VMM that it can no longer see end.
func (b *box) killBoth() {
	b.kill()
	for _, p := range b.vmms() {
		b.killProcess(p.pid)
	}
}

// vmms are the installation's VMMs.
func (b *box) vmms() []process {
	b.t.Helper()
	all, err := b.processes()
	if err != nil {
		b.t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(p process) bool { return p.name() != vmmTool })
}

// tellGuest makes the guest end itself, past the daemon.
func (b *box) tellGuest(how string) {
	b.t.Helper()
	if !b.real {
		for _, p := range b.vmms() {
			if err := syscall.Kill(p.pid, map[string]syscall.Signal{"poweroff": syscall.SIGUSR1, "reboot": syscall.SIGUSR2}[how]); err != nil {
				b.t.Fatal(err)
			}
		}
		return
	}
	vms, _, err := b.rows()
	if err != nil || len(vms) != 1 {
		b.t.Fatalf("the VM's row: %v, %v", vms, err)
	}
	var run banger.Run
	if err := json.Unmarshal([]byte(vms[0].run), &run); err != nil {
		b.t.Fatal(err)
	}
	signer, err := guest.LoadOrCreateKey(b.State + "/id_ed25519")
	if err != nil {
		b.t.Fatal(err)
	}
	guests := vm.NewSSH(signer, slog.New(slog.DiscardHandler))
	defer guests.Close()
	g, err := guests.Reach(b.ctx(), vm.Target{
		VM: banger.VMID(vms[0].id), Launch: run.Launch, Addr: run.Endpoint.SSH.String(), Key: vms[0].hostKey,
	}, nil)
	if err == nil {
		err = g.Shutdown(b.ctx(), how)
	}
	if err != nil && !errors.Is(err, guest.ErrLost) { // its VMM may be ended before it answers
		b.t.Fatal(err)
	}
}

// fault is what happens at a point.
type fault string

const (
	failsHere fault = "fails"    // the step returns an error, having done nothing, or all
	killed    fault = "killed"   // bangerd gets SIGKILL
	canceled  fault = "canceled" // the user calls the operation off; bangerd gets SIGTERM, where nobody asked for it
	late      fault = "late"     // the step's deadline passes

	rootFails  fault = "root fails"  // banger-root does, at one of its own points
	rootKilled fault = "root killed" // banger-root gets SIGKILL
	rootGone   fault = "root gone"   // it does, and cannot be started until the next daemon runs

	passtFails fault = "passt fails" // to start
	passtDies  fault = "passt dies"  // by SIGKILL
)

// faultsAt are those that make sense at a point of the daemon's.
func (s setup) faultsAt(p point) []fault {
	all := stepFaultsAt(p)
	if s.network == routed {
		all = append(all, rootFaultsAt(p)...)
	}
	if s.stack == stackPasst {
		all = append(all, passtFaultsAt(p)...)
	}
	return all
}

func stepFaultsAt(p point) []fault {
	switch p.phase() {
	case string(steps.BeforeEnsure), string(steps.BeforeRelease):
		return []fault{failsHere, killed, canceled, late}
	case string(steps.AfterEnsure):
		return []fault{failsHere, killed, canceled}
	case string(steps.AfterRelease), "before write":
		return []fault{failsHere, killed}
	}
	return []fault{killed} // a write that was made and is said to have failed would be a lie of the test's
}

// rootFaultsAt are those that have to do with banger-root.
func rootFaultsAt(p point) []fault {
	switch {
	case strings.HasPrefix(string(p), ofRoot):
		return []fault{rootFails, rootKilled}
	case p == "before release network":
		return []fault{rootKilled, rootGone}
	case strings.HasSuffix(p.phase(), "write"):
		return nil
	}
	return []fault{rootKilled}
}
