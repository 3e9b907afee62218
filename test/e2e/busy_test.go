package e2e

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Many commands at once share one connection, and none gets another's bytes.
func TestExecManyAtOnce(t *testing.T) {
	b := web(t)
	const many = 24
	var wait sync.WaitGroup
	for i := range many {
		wait.Go(func() {
			word := strings.Repeat(fmt.Sprintf("command %d\n", i), 2000)
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			cmd := b.Command(ctx, "vm", "exec", "web", "--", "sh", "-c", fmt.Sprintf("cat; exit %d", i))
			cmd.Stdin = strings.NewReader(word)
			out, _ := cmd.Output() // the exit code says it
			if code := cmd.ProcessState.ExitCode(); code != i || string(out) != word {
				t.Errorf("command %d: exit code %d, %d bytes of %d", i, code, len(out), len(word))
			}
		})
	}
	wait.Wait()
}

// bulk is how many bytes go through one command: far more than any memory on the
// way. A gibibyte costs an emulated CPU six minutes of deciphering.
func bulk() int64 {
	if os.Getenv("BANGER_TEST_LONG") != "" {
		return 1 << 30
	}
	return 192 << 20
}

// parts is in how many a flood's memory is looked at.
const parts = 32

// memoryLimit is what a program may take for it, KiB. Seen: 14 MiB in the client,
// 24 in the daemon.
const memoryLimit = 96 << 10

// A pattern is bulk's bytes, made as they are read.
type pattern struct{ at, size int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.at == p.size {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.size-p.at)]
	for i := range b {
		b[i] = byte((p.at + int64(i)) >> 3)
	}
	p.at += int64(len(b))
	return len(b), nil
}

// A flood goes through stdin and out again, in the memory of neither the
// client nor the daemon. Meanwhile others are served.
func TestExecBulk(t *testing.T) {
	b, bulk := web(t), bulk()
	ctx, cancel := context.WithTimeout(t.Context(), 8*limit)
	defer cancel()
	lock, held, err := b.Lock()
	if err != nil || !held {
		t.Fatal("no daemon: ", err)
	}
	cmd := b.Command(ctx, "vm", "exec", "web", "--", "cat")
	cmd.Stdin, cmd.Stderr = &pattern{size: bulk}, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got, n := sha256.New(), int64(0)
	clients, daemons := 0, 0
	for part := 1; part < parts; part++ {
		k, err := io.CopyN(got, out, bulk/parts)
		if n += k; err != nil {
			break
		}
		clients, daemons = max(clients, peak(t, cmd.Process.Pid)), max(daemons, peak(t, lock.PID))
		if part%(parts/4) == 0 {
			b.in("web", "true") // others are served
		}
	}
	k, err := io.Copy(got, out)
	if n += k; err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("after %d bytes: %v", n, err)
	}
	want := sha256.New()
	if _, err := io.Copy(want, &pattern{size: bulk}); err != nil {
		t.Fatal(err)
	}
	if n != bulk || string(got.Sum(nil)) != string(want.Sum(nil)) {
		t.Errorf("%d bytes came back, and not those that were sent", n)
	}
	daemons = max(daemons, peak(t, lock.PID))
	t.Logf("report: %d MiB through stdin and out again: peak memory: client %d KiB, daemon %d KiB", n>>20, clients, daemons)
	if clients > memoryLimit || daemons > memoryLimit {
		t.Errorf("peak memory: client %d KiB, daemon %d KiB; limit %d", clients, daemons, memoryLimit)
	}
}

// peak is the most memory that a process has had, KiB.
func peak(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	f := strings.Fields(rest)
	if len(f) == 0 {
		t.Fatalf("no VmHWM of process %d", pid)
	}
	n, err := strconv.Atoi(f[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A client that reads nothing holds up its own command alone.
func TestExecClientThatStopsReading(t *testing.T) {
	b := web(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := b.Command(ctx, "vm", "exec", "-n", "web", "--", "sh", "-c", "echo $$; exec yes")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := strings.TrimSpace(readUntil(t, out, "\n"))
	// It is stuck once it writes no more: its count of bytes stands still.
	b.in("web", fmt.Sprintf(`last=; while n=$(grep ^wchar /proc/%s/io) && [ "$n" != "$last" ]; do last=$n; sleep 1; done`, pid))
	big := strings.Repeat("others go on\n", 100_000)
	if r := b.input(big, "vm", "exec", "web", "--", "cat"); r.code != 0 || r.out != big {
		t.Errorf("another command: exit code %d, %d bytes of %d: %s", r.code, len(r.out), len(big), r.err)
	}
	if r := b.run("vm", "cp", "web:/etc/passwd", t.TempDir()); r.code != 0 {
		t.Errorf("a copy: %+v", r)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	b.gone("web", pid)
}

// gone waits until a process of the VM's has ended.
func (b box) gone(vm, pid string) {
	b.t.Helper()
	b.in(vm, "while kill -0 "+pid+" 2>/dev/null; do sleep 0.1; done")
}

// Ctrl-C without a terminal reaches the whole process group there.
func TestExecInterruptReachesTheGroup(t *testing.T) {
	b := web(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := b.Command(ctx, "vm", "exec", "web", "--", "sh", "-c",
		`trap 'echo parent; exit 3' INT; sh -c 'trap "echo child; exit" INT; echo ready; while :; do sleep 0.1; done'; sleep 1000`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a shell's job: Ctrl-C is its own
	in, out := start(t, cmd)
	defer in.Close()
	readUntil(t, out, "ready\n")
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(out)
	_ = cmd.Wait() // exit code below
	if code := cmd.ProcessState.ExitCode(); err != nil || code != 3 || !strings.Contains(string(text), "parent\n") || !strings.Contains(string(text), "child\n") {
		t.Errorf("exit code %d, %q, %v", code, text, err)
	}
}

// A connection that is lost ends the command by SIGHUP, and one that asked to
// stay stays. Here the daemon is killed; a client that is killed is another test.
func TestExecConnectionLost(t *testing.T) {
	b := web(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	begin := func(script string) (*exec.Cmd, string) {
		cmd := b.Command(ctx, "vm", "exec", "-n", "web", "--", "sh", "-c", script)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, strings.TrimSpace(readUntil(t, out, "\n"))
	}
	b.in("web", "rm -f /tmp/hung-up")
	told, toldPID := begin(`trap 'echo HUP >/tmp/hung-up; exit' HUP; echo $$; while :; do sleep 0.1; done`)
	stays, staysPID := begin(`nohup sh -c 'echo $$; exec sleep 1000'`)
	lock, held, err := b.Lock()
	if err != nil || !held {
		t.Fatal("no daemon: ", err)
	}
	if err := syscall.Kill(lock.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*exec.Cmd{told, stays} {
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 125 {
			t.Errorf("the client ended with %v, want exit code 125", err)
		}
	}
	b.gone("web", toldPID) // by the next daemon
	if got := b.in("web", "cat /tmp/hung-up; rm /tmp/hung-up"); got != "HUP" {
		t.Errorf("the command was told %q", got)
	}
	if got := b.in("web", "kill -0 "+staysPID+" && echo there; kill "+staysPID); got != "there" {
		t.Errorf("the command that asked to stay: %q", got)
	}
}
