package matrix

import (
	"fmt"
	"strings"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
)

// settle waits until nothing is under way, and returns what has become of the VM.
func (b *box) settle() string {
	b.t.Helper()
	op, err := b.client.WaitVM(b.ctx(), api.WaitRequest{VM: vmName, For: "ready"})
	if err == nil {
		_, err = op.Wait(b.ctx(), nil)
	}
	if c := banger.CodeOf(err); err != nil && c != banger.NotFound && c != banger.WrongState {
		b.t.Fatalf("wait for the VM: %v", err)
	}
	if b.stack == stackPasst {
		b.eventually("the loss of the network is noticed", b.lossNoticed)
	}
	state := b.state()
	if state == string(banger.StateRunning) || state == degraded || state == cut {
		b.eventually("nobody repairs the VM", b.unrepaired)
		state = b.state()
	}
	return state
}

// unrepaired fails while a repair of a VM that runs is under way: then only are
// those who start it told to wait.
func (b *box) unrepaired() error {
	o, err := b.start()
	if err == nil {
		_, err = o.Wait(b.ctx(), nil)
	}
	if e := banger.AsError(err); e == nil || strings.Contains(e.Remedy, "vm wait") {
		return fmt.Errorf("start says %v", err)
	}
	return nil
}

// state is the VM's, or absent.
func (b *box) state() string {
	b.t.Helper()
	vms, err := b.client.ListVMs(b.ctx())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, v := range vms {
		if v.Name == vmName && v.State == banger.StateRunning && v.Problem != nil {
			if b.stack == stackPasst && len(b.passts()) == 0 {
				return cut
			}
			return degraded
		}
		if v.Name == vmName {
			return string(v.State)
		}
	}
	return absent
}

// What else a VM can be: not there, running with something that could not be
// mended, or running without its passt.
const (
	absent   = "absent"
	degraded = "degraded"
	cut      = "cut"
)

// bring makes the VM be in a state, starting from any.
func (b *box) bring(to string) {
	b.t.Helper()
	from := b.settle()
	if from == to {
		return
	}
	if from == string(banger.StateError) || to == absent {
		b.do(b.delete)
		from = absent
	}
	switch {
	case from == to:
	case to == string(banger.StateStopped) && from == absent:
		b.do(b.create(true))
	case to == string(banger.StateStopped):
		b.do(b.killVM)
	case from == degraded || from == cut:
		b.do(b.restart)
	case from == absent:
		b.do(b.create(false))
	default:
		b.do(b.start)
	}
}

// do begins an operation, which must succeed.
func (b *box) do(begin begin) {
	b.t.Helper()
	op, err := begin()
	if err == nil {
		_, err = op.Wait(b.ctx(), nil)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// begin begins an operation.
type begin func() (*client.Op[banger.VM], error)

func (b *box) create(noStart bool) begin {
	return func() (*client.Op[banger.VM], error) {
		return b.client.CreateVM(b.ctx(), api.CreateRequest{
			Name: api.Some(vmName), Image: api.Some(imageName), NoStart: noStart,
			CPUs: api.Some(1), Memory: api.Some(int64(128 << 20)), Disk: api.Some(int64(16 << 20)), Network: api.Some(b.setup.network),
		})
	}
}

var theVM = api.VMRequest{VM: vmName}

func (b *box) start() (*client.Op[banger.VM], error)  { return b.client.StartVM(b.ctx(), theVM) }
func (b *box) killVM() (*client.Op[banger.VM], error) { return b.client.KillVM(b.ctx(), theVM) }
func (b *box) restart() (*client.Op[banger.VM], error) {
	return b.client.RestartVM(b.ctx(), api.StopRequest{VM: theVM.VM})
}

func (b *box) reset() (*client.Op[banger.VM], error) { return b.client.ResetVM(b.ctx(), theVM) }

func (b *box) stop() (*client.Op[banger.VM], error) {
	return b.client.StopVM(b.ctx(), api.StopRequest{VM: vmName})
}

func (b *box) delete() (*client.Op[banger.VM], error) {
	return b.client.DeleteVM(b.ctx(), api.DeleteRequest{VM: vmName, Force: true})
}
