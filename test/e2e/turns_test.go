package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"banger"
	"banger/test/sandbox"
)

// Two builds take turns with VMs that run and a command that streams. While it
// does, a newer build does not replace the daemon by itself; told to, it does,
// and the stream ends with a clear error. VMs are not touched, and the older
// build does not take its place back.
func TestReplacedInTurn(t *testing.T) {
	turns, vms := 4, 3
	if os.Getenv("BANGER_TEST_LONG") != "" {
		turns = 20
	}
	b := fresh(t)
	builds := []string{filepath.Join(b.Dir, "build-0"), filepath.Join(b.Dir, "build-1")}
	for i, dir := range builds {
		must(t, sandbox.Build(dir, fmt.Sprintf("build-%d", i)))
	}
	made := time.Now()
	renew := func(turn int) { // its daemon is the newest file of all from here on
		at := made.Add(time.Duration(turn) * time.Minute)
		must(t, os.Chtimes(filepath.Join(builds[turn%2], "bangerd"), at, at))
	}
	renew(0)
	b.Bin = builds[0]
	before := make([]banger.VM, vms)
	b.ok("vm", "list")
	var all sync.WaitGroup
	for i := range vms {
		all.Go(func() {
			if r := b.run(append([]string{"vm", "create", "--name", fmt.Sprintf("vm-%d", i)}, cheap()...)...); r.code != 0 {
				t.Errorf("create: %+v", r)
			}
		})
	}
	all.Wait()
	for i := range vms {
		before[i] = b.show(fmt.Sprintf("vm-%d", i))
	}
	for turn := 1; turn <= turns && !t.Failed(); turn++ {
		old := b.daemonPID()
		s := b.stream("vm-0")
		renew(turn)
		older := b.Bin
		b.Bin = builds[turn%2]
		if r := b.run("vm", "list"); r.code != 0 || !strings.Contains(r.err, "until it is idle") || b.daemonPID() != old {
			t.Errorf("turn %d, beside a command: %+v", turn, r)
		}
		s.says(t, turn)
		if turn%2 == 0 {
			s.endsWell(t)
			b.eventuallyReplaced(old)
		} else {
			b.ok("daemon", "restart")
			s.endsClearly(t)
		}
		now := b.daemonPID()
		b.untouched(before)
		newer := b.Bin
		b.Bin = older
		b.ok("vm", "list", "-q")
		b.Bin = newer
		if b.daemonPID() != now || now == old {
			t.Errorf("turn %d: daemon %d, then %d, and %d once the older build was used", turn, old, now, b.daemonPID())
		}
	}
	if !t.Failed() {
		t.Logf("report: two builds in turn: %d turns, %d VMs untouched", turns, vms)
	}
}

// untouched fails unless the daemon has taken all VMs over as they were, and
// there is no process besides.
func (b box) untouched(before []banger.VM) {
	b.t.Helper()
	for _, was := range before {
		b.ok("vm", "wait", was.Name, "--for", "ready", "--timeout", limit.String())
		if is := b.show(was.Name); is.PID != was.PID || !is.Ready || is.State != banger.StateRunning || is.Problem != nil || !is.StartedAt.Equal(was.StartedAt) {
			b.t.Errorf("%s is %+v, was %+v", was.Name, is, was)
		}
	}
	events := b.ok("events")
	if n := strings.Count(events, `"type":"adopted"`); n != len(before) || n != strings.Count(events, "\n") {
		b.t.Errorf("more than %d adoptions happened to the VMs:\n%s", len(before), events)
	}
	left, err := b.Leftovers()
	must(b.t, err)
	n := map[string]int{}
	for _, l := range left {
		_, argv, _ := strings.Cut(l.What, ": ")
		for _, name := range []string{"bangerd", "qemu-system"} {
			if first, _, _ := strings.Cut(argv, " "); strings.HasPrefix(filepath.Base(first), name) {
				n[name]++
			}
		}
	}
	if n["bangerd"] != 1 || n["qemu-system"] != len(before) {
		b.t.Errorf("%v of %v", n, left)
	}
}

// eventuallyReplaced uses the daemon until it is another: it sees its client go
// in its own time.
func (b box) eventuallyReplaced(old int) {
	b.t.Helper()
	for deadline := time.Now().Add(limit); b.daemonPID() == old; {
		if time.Now().After(deadline) {
			b.t.Fatal("the idle daemon is not replaced")
		}
		b.ok("vm", "list", "-q")
	}
}

// A stream is a command in a VM that repeats what it is told.
type stream struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  io.Reader
	errs bytes.Buffer
}

func (b box) stream(vm string) *stream {
	b.t.Helper()
	s := &stream{cmd: b.Command(b.t.Context(), "vm", "exec", vm, "--", "cat")}
	s.cmd.Stderr = &s.errs
	var err error
	s.in, err = s.cmd.StdinPipe()
	must(b.t, err)
	s.out, err = s.cmd.StdoutPipe()
	must(b.t, err)
	must(b.t, s.cmd.Start())
	s.says(b.t, -1)
	return s
}

func (s *stream) says(t *testing.T, n int) {
	t.Helper()
	fmt.Fprintf(s.in, "word %d\n", n)
	if got := readUntil(t, s.out, "\n"); got != fmt.Sprintf("word %d\n", n) {
		t.Errorf("the command said %q", got)
	}
}

func (s *stream) endsWell(t *testing.T) {
	t.Helper()
	s.in.Close()
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("the command that went on ended with %v\n%s", err, s.errs.String())
	}
}

func (s *stream) endsClearly(t *testing.T) {
	t.Helper()
	_ = s.cmd.Wait() // exit code below
	if code := s.cmd.ProcessState.ExitCode(); code != 125 || !strings.Contains(s.errs.String(), "bangerd") {
		t.Errorf("the command whose daemon ended: exit code %d\n%s", code, s.errs.String())
	}
}
