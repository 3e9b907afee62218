package matrix

import (
	"errors"
	"os"
	"strings"
	"testing"

	"banger"
	"banger/internal/api"
)

// The host reboots: processes, the run directory, /run and the network with all that
// banger made there are gone. VMs have their names and addresses; one that starts by
// itself runs once the daemon does, another can be started. (Only one stand-in at a time
// is where routed guests are.)
func TestHostReboot(t *testing.T) {
	needApart(t)
	b := ownOf(t, routedStandIns)
	const idle = "idle"
	b.do(func() (op, error) {
		r := smallest(idle, routed)
		r.NoStart = true
		return b.client.CreateVM(b.ctx(), r)
	})
	b.bring("running")
	if _, err := b.client.SetVM(b.ctx(), api.SetRequest{VM: vmName, Autostart: api.Some(true)}); err != nil {
		t.Fatal(err)
	}
	before := map[string]banger.VM{vmName: b.shown(vmName), idle: b.shown(idle)}
	b.routes(before, "before the reboot", vmName)
	b.kill()
	for _, p := range b.vmms() {
		b.killProcess(p.pid)
	}
	old := b.host
	if err := errors.Join(b.endRoot(), os.RemoveAll(b.Run), b.apart()); err != nil {
		t.Fatal(err)
	}
	old.Close()
	b.routes(before, "after the reboot")
	b.up()
	if got := b.settle(); got != "running" {
		t.Errorf("the VM that starts by itself is %s", got)
	}
	if v := b.shown(vmName); v.LastExit == nil || v.LastExit.Cause != banger.ExitUnknown || v.PID == before[vmName].PID {
		t.Errorf("it is %+v, was %+v", v, before[vmName])
	}
	if v := b.shown(idle); v.State != banger.StateStopped || v.Problem != nil {
		t.Errorf("the other is %s, %+v", v.State, v.Problem)
	}
	b.routes(before, "with the daemon", vmName)
	b.do(b.stop)
	b.do(func() (op, error) { return b.client.StartVM(b.ctx(), api.VMRequest{VM: idle}) })
	b.routes(before, "with the other started", idle)
	for name, was := range before {
		if v := b.shown(name); v.ID != was.ID || v.Addr != was.Addr || v.MAC != was.MAC || v.MachineID != was.MachineID || v.Problem != nil {
			t.Errorf("%s is %+v, was %+v", name, v, was)
		}
		b.do(func() (op, error) {
			return b.client.DeleteVM(b.ctx(), api.DeleteRequest{VM: name, Force: true})
		})
	}
	b.routes(before, "with both deleted")
}

// routes fails unless the host has a route to each of these VMs, and to no other.
func (b *box) routes(all map[string]banger.VM, when string, names ...string) {
	b.t.Helper()
	world, err := b.network()
	if err != nil {
		b.t.Fatal(err)
	}
	for name, v := range all {
		want := strings.Contains(" "+strings.Join(names, " ")+" ", " "+name+" ")
		if got := strings.Contains(world, "route "+v.Addr.String()+"/32"); got != want {
			b.t.Errorf("%s: a route to %s: %t, want %t\n%s", when, name, got, want, world)
		}
	}
}
