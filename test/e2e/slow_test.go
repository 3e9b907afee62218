package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"banger"
)

const (
	slowRate  = 128 << 10 // bytes a second
	slowQueue = 64 << 10  // bytes that wait on either side of the link

	// filled is how much of a flood passes until all that can be full is.
	filled = 1 << 20

	// overtaken is how much of a flood may pass while a small command is begun, run
	// and ended, at the best of a few: what waits at the link each time that it goes
	// there, and what passes while an emulated guest works. Seen: half of it; one
	// and a half times as much where the kernel keeps what it likes.
	overtaken = 1 << 20
)

var tbf = fmt.Sprintf("tbf rate %dbit burst 16kb limit %d", 8*slowRate, slowQueue)

// Over a slow link a command that floods it, in either direction, does not starve
// small ones; Ctrl-C reaches all of its process group; and when the connection is
// lost it is hung up on.
func TestExecOverASlowLink(t *testing.T) {
	l := newLAN(t)
	v := l.boot("slow", "--network", "routed")
	tap := l.tapOf(v)
	l.slowDown(tap)

	from := l.flood("-n", "slow", "--", "sh", "-c", "cat /dev/zero | cat")
	l.smallOnes("from the guest", from.n.Load)
	l.interrupt(from)

	to := l.flood("slow", "--", "sh", "-c", "cat | cat >/dev/null")
	l.smallOnes("to the guest", func() int64 {
		link, err := netlink.LinkByName(tap)
		must(t, err)
		return int64(link.Attrs().Statistics.TxBytes)
	})
	l.interrupt(to)

	l.in("slow", "rm -f /tmp/hung-up")
	last := l.flood("-n", "slow", "--", "sh", "-c", "trap 'echo HUP >/tmp/hung-up; exit' HUP; cat /dev/zero & wait")
	l.eventually("output comes", func() bool { return last.n.Load() > slowQueue })
	lock, held, err := l.Lock()
	if err != nil || !held {
		t.Fatal("no daemon: ", err)
	}
	must(t, syscall.Kill(lock.PID, syscall.SIGKILL))
	<-last.end
	_ = last.cmd.Wait() // cut off: the daemon is dead

	if got := l.in("slow", "until [ -s /tmp/hung-up ]; do sleep 0.1; done; cat /tmp/hung-up"); got != "HUP" { // by the next daemon
		t.Errorf("the command was told %q", got)
	}
	l.nothingRuns()
}

// tapOf is the name of a VM's tap.
func (l *lan) tapOf(v banger.VM) string {
	l.t.Helper()
	links, err := netlink.LinkList()
	must(l.t, err)
	for _, k := range links {
		if strings.Contains(k.Attrs().Alias, "vm="+string(v.ID)) {
			return k.Attrs().Name
		}
	}
	l.t.Fatalf("no tap of %s among %v", v.Name, links)
	return ""
}

// slowDown bounds what a tap passes in each direction. What comes from it is led
// through another link, since only what goes out of one can be queued.
func (l *lan) slowDown(tap string) {
	l.t.Helper()
	run := func(argv string) {
		l.t.Helper()
		words := strings.Fields(argv)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			l.t.Fatalf("%s: %v\n%s", argv, err, out)
		}
	}
	run("ip link add slow type ifb")
	l.t.Cleanup(func() { run("ip link del slow") })
	run("ip link set dev slow up")
	run("tc qdisc add dev slow root " + tbf)
	run("tc qdisc add dev " + tap + " root " + tbf)
	run("tc qdisc add dev " + tap + " ingress")
	run("tc filter add dev " + tap + " parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev slow")
}

// A flood is a command that is given, or gives, more than ever passes.
type flood struct {
	cmd *exec.Cmd
	n   atomic.Int64 // bytes that came from it
	end chan error   // of its output
}

func (l *lan) flood(args ...string) *flood {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 2*limit)
	l.t.Cleanup(cancel)
	f := &flood{cmd: l.Command(ctx, append([]string{"vm", "exec"}, args...)...), end: make(chan error, 1)}
	zero, err := os.Open("/dev/zero")
	must(l.t, err)
	defer zero.Close()
	out, err := f.cmd.StdoutPipe()
	must(l.t, err)
	f.cmd.Stdin = zero
	must(l.t, f.cmd.Start())
	go func() {
		buf := make([]byte, 32<<10)
		for {
			n, err := out.Read(buf)
			f.n.Add(int64(n))
			if err != nil {
				if errors.Is(err, io.EOF) {
					err = nil
				}
				f.end <- err
				return
			}
		}
	}()
	return f
}

// smallOnes runs small commands, alone and several at once, beside a flood of
// which passed says how much has gone by.
func (l *lan) smallOnes(what string, passed func() int64) {
	l.t.Helper()
	began := passed()
	l.eventually("what can be filled is full", func() bool { return passed()-began > filled })
	best := int64(math.MaxInt64)
	for range 3 {
		before := passed()
		if got := l.in("slow", "echo here"); got != "here" {
			l.t.Errorf("%s: a small command said %q", what, got)
		}
		n := passed() - before
		l.t.Logf("report: %s: %d KiB of the flood passed beside a small command", what, n>>10)
		best = min(best, n)
	}
	if best > overtaken {
		l.t.Errorf("%s: small commands wait for %d bytes of the flood", what, best)
	}
	const many = 6
	var cmds [many]*exec.Cmd
	var outs [many]strings.Builder
	for i := range cmds {
		cmds[i] = l.Command(l.t.Context(), "vm", "exec", "slow", "--", "cat")
		cmds[i].Stdin, cmds[i].Stdout, cmds[i].Stderr = strings.NewReader(word(i)), &outs[i], os.Stderr
		must(l.t, cmds[i].Start())
	}
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil || outs[i].String() != word(i) {
			l.t.Errorf("%s: one of many: %v, %q", what, err, outs[i].String())
		}
	}
}

func word(i int) string { return fmt.Sprintf("word %d\n", i) }

// interrupt presses Ctrl-C: nothing of the flood is left.
func (l *lan) interrupt(f *flood) {
	l.t.Helper()
	must(l.t, f.cmd.Process.Signal(syscall.SIGINT))
	if err := <-f.end; err != nil {
		l.t.Error(err)
	}
	_ = f.cmd.Wait() // exit code below
	if code := f.cmd.ProcessState.ExitCode(); code != 128+int(syscall.SIGINT) {
		l.t.Errorf("exit code %d, want that of SIGINT", code)
	}
	l.nothingRuns()
}

// nothingRuns waits until the guest has none of the floods' processes.
func (l *lan) nothingRuns() {
	l.t.Helper()
	l.in("slow", "while pidof cat >/dev/null; do sleep 0.1; done")
}

// eventually waits until something is so.
func (l *lan) eventually(what string, so func() bool) {
	l.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(limit); !so(); <-tick.C {
		if time.Now().After(late) {
			l.t.Fatalf("%s: never within %v", what, limit)
		}
	}
}
