package matrix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
	"banger/test/netns"
	"banger/test/sandbox"
)

// vmName is the one VM of an installation.
const vmName = "m"

// A setup is what the VMs of an installation are.
type setup struct {
	real    bool   // QEMU and a guest, not the stand-in
	network string // mode
	stack   string // of mode user
	worlds  string // directory below testdata
}

// standIns need no root, and no guest. The stand-in is no machine that a passt
// could serve.
var standIns = setup{network: "user", stack: "qemu"}

// A box is an installation with a faulty daemon that the test starts and ends.
type box struct {
	*sandbox.Sandbox
	setup
	host   *netns.Thread // where its programs run; nil: where the test does
	t      *testing.T    // whoever uses it now
	faults *faults
	client *client.Client

	mu    sync.Mutex
	cmd   *exec.Cmd     // the daemon, nil if none runs
	ended chan struct{} // closed when it has

	rootless bool // the next daemon cannot start banger-root
}

// newBox makes an installation. Its VMMs are stand-ins, or real QEMUs.
func newBox(t *testing.T, real bool) *box {
	t.Helper()
	return newBoxOn(t, real, func(*box) {})
}

// newBoxOn lets the test prepare the ground first.
func newBoxOn(t *testing.T, real bool, prepare func(*box)) *box {
	t.Helper()
	s := standIns
	s.real = real
	return newBoxOf(t, s, prepare)
}

func newBoxOf(t *testing.T, of setup, prepare func(*box)) *box {
	t.Helper()
	build(t)
	s, err := sandbox.Make()
	if err != nil {
		t.Fatal(err)
	}
	f, err := serveFaults(filepath.Join(s.Dir, "faults"))
	if err != nil {
		t.Fatal(err)
	}
	b := &box{Sandbox: s, setup: of, t: t, faults: f, client: client.New(filepath.Join(s.Run, "bangerd.sock"))}
	s.Set("BANGER_RUNTIME_DIR", built.runtime)
	s.Set("BANGER_FAULTS", filepath.Join(s.Dir, "faults"))
	if !of.real {
		s.Set("PATH", built.standIn+":"+s.Bin+":"+os.Getenv("PATH"))
	}
	s.Set("BANGER_NETWORK_USER", of.stack)
	if of.stack == stackPasst {
		s.Set("PATH", s.Dir+"/passt:"+s.Bin+":"+os.Getenv("PATH"))
	}
	if of.network == routed {
		if err := b.apart(); err != nil {
			t.Fatal(err)
		}
	}
	prepare(b)
	b.up()
	b.bring("stopped") // registers the image
	b.bring(absent)
	return b
}

// close ends all that the installation has; what is left is an error.
func (b *box) close() error {
	b.faults.watch("")
	b.end()
	var err error
	b.in(func() { err = b.Close() })
	err = errors.Join(err, b.endRoot(), b.faults.l.Close())
	if b.host != nil {
		b.host.Close()
	}
	return err
}

// ctx bounds whatever is waited for.
func (b *box) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	b.t.Cleanup(cancel)
	return ctx
}

// launch starts the daemon and does not wait for it.
func (b *box) launch() {
	b.t.Helper()
	b.end()
	b.mu.Lock() // before the daemon comes to a point at which it is killed
	defer b.mu.Unlock()
	bin := b.Bin
	if b.rootless {
		bin = built.rootless
	}
	cmd := exec.Command(filepath.Join(bin, "bangerd"))
	cmd.Env, cmd.Dir, cmd.Stderr = b.Environ(), "/", os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var err error
	b.in(func() { err = cmd.Start() })
	if err != nil {
		b.t.Fatal(err)
	}
	b.cmd, b.ended = cmd, make(chan struct{})
	go func(ended chan struct{}) {
		cmd.Wait()
		close(ended)
	}(b.ended)
}

// listening waits until the daemon answers.
func (b *box) listening() {
	b.t.Helper()
	b.eventually("the daemon answers", func() error {
		select {
		case <-b.ended:
			b.t.Fatalf("the daemon has ended\n%s", b.logTail())
		default:
		}
		_, err := b.client.DaemonStatus(b.ctx())
		return err
	})
}

// up starts the daemon if none runs.
func (b *box) up() {
	b.t.Helper()
	if b.cmd == nil {
		b.launch()
	}
	b.listening()
}

// kill ends the daemon as a power cut would.
func (b *box) kill() { b.signal(syscall.SIGKILL) }

// end ends it in an orderly way.
func (b *box) end() { b.signal(syscall.SIGTERM) }

func (b *box) signal(sig syscall.Signal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cmd == nil {
		return
	}
	b.cmd.Process.Signal(sig)
	select {
	case <-b.ended:
	case <-time.After(limit):
		b.t.Errorf("the daemon outlives %v", sig)
		b.cmd.Process.Kill()
		<-b.ended
	}
	b.cmd = nil
}

// terminate tells the daemon to end, and does not wait.
func (b *box) terminate() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cmd.Process.Signal(syscall.SIGTERM)
}

// await waits for an event.
func (b *box) await(event <-chan struct{}, what string) {
	b.t.Helper()
	select {
	case <-event:
	case <-time.After(limit):
		b.t.Fatalf("waited in vain for %s", what)
	}
}

// killProcess ends a process and returns when it is gone, or a zombie.
func (b *box) killProcess(pid int) {
	b.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		b.t.Fatal(err)
	}
	b.eventually(fmt.Sprintf("process %d ends", pid), func() error {
		all, err := b.processes()
		if err == nil && slices.ContainsFunc(all, func(p process) bool { return p.pid == pid }) {
			err = errors.New("it lives")
		}
		return err
	})
}

// eventually tries until it works.
func (b *box) eventually(what string, try func() error) {
	b.t.Helper()
	if err := until(limit, try); err != nil {
		b.t.Fatalf("%s: never within %v: %v", what, limit, err)
	}
}

// until tries until it works, or time is over; then it says why it does not.
func until(within time.Duration, try func() error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-late.C:
			return err
		}
	}
}

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

// logTail is the end of the daemon's log.
func (b *box) logTail() string {
	log, err := os.ReadFile(filepath.Join(b.State, "daemon.log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(log), "\n")
	return fmt.Sprint("the daemon's log ends:\n", strings.Join(lines[max(0, len(lines)-25):], "\n"))
}
