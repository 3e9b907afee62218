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

// logTail is the end of the daemon's log.
func (b *box) logTail() string {
	log, err := os.ReadFile(filepath.Join(b.State, "daemon.log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(log), "\n")
	return fmt.Sprint("the daemon's log ends:\n", strings.Join(lines[max(0, len(lines)-25):], "\n"))
}
