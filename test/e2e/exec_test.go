package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/creack/pty"
)

// An argv reaches the guest as a vector: no shell splits or expands it.
func TestExecArgv(t *testing.T) {
	b := web(t)
	words := []string{
		"two words", "  ", "", "'single'", `"double"`, `back\slash`, "new\nline", "$HOME", "`id`", "*", "~",
		"-n", "--", "--name", "a;b", "a&b", "ä€", "\t", "%s", "!!",
		"caf\xe9", "\xff\xfe", "\xed\xa0\x80", // no UTF-8: a name in an older encoding, bytes
	}
	argv := append([]string{"vm", "exec", "-n", "web", "--", "printf", `%s\0`}, words...)
	got := b.ok(argv...)
	if want := strings.Join(words, "\x00") + "\x00"; got != want {
		t.Errorf("the guest got %q, want %q", got, want)
	}
}

func TestExecExitCodes(t *testing.T) {
	b := web(t)
	for _, c := range []struct {
		script string
		want   int
	}{
		{"exit 0", 0}, {"exit 1", 1}, {"exit 42", 42}, {"exit 125", 125}, {"exit 255", 255},
		{"kill -TERM $$", 128 + 15}, {"kill -KILL $$", 128 + 9}, {"kill -SEGV $$", 128 + 11},
	} {
		if r := b.run("vm", "exec", "-n", "web", "--", "sh", "-c", c.script); r.code != c.want {
			t.Errorf("%s: exit code %d, want %d (%s)", c.script, r.code, c.want, r.err)
		}
	}
	if r := b.run("vm", "exec", "-n", "web", "--", "/no/such/program"); r.code != 127 && r.code != 125 {
		t.Errorf("no such program: exit code %d", r.code)
	}
}

func TestExecStreams(t *testing.T) {
	b := web(t)
	r := b.input("given", "vm", "exec", "web", "--", "sh", "-c", "cat; echo to stderr >&2")
	if r.code != 0 || r.out != "given" || !strings.Contains(r.err, "to stderr") {
		t.Errorf("%+v", r)
	}
	// Large and binary, both ways; more than any buffer on the way.
	big := bytes.Repeat([]byte("\x00\x01\xff banger\n\r"), 300_000)
	if r := b.input(string(big), "vm", "exec", "web", "--", "cat"); r.code != 0 || r.out != string(big) {
		t.Errorf("cat of %d bytes gave %d, exit code %d: %s", len(big), len(r.out), r.code, r.err)
	}
	// A command that does not read its input, and one that leaves it alone.
	if r := b.input(string(big), "vm", "exec", "web", "--", "true"); r.code != 0 {
		t.Errorf("%+v", r)
	}
	if r := b.input("given", "vm", "exec", "-n", "web", "--", "cat"); r.code != 0 || r.out != "" {
		t.Errorf("%+v", r)
	}
}

func TestExecEnvironment(t *testing.T) {
	b := web(t)
	b.Set("GIVEN", "caller's value")
	got := b.ok("vm", "exec", "-n", "web", "-e", "A=1 2", "-e", "GIVEN", "-w", "/usr/share", "--", "sh", "-c",
		`echo "$A|$GIVEN|$PWD|$HOME|$USER|$(id -un)"`)
	if want := "1 2|caller's value|/usr/share|/root|root|root\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// A shell would not pass it on.
	if got := b.ok("vm", "exec", "-n", "web", "-e", "odd-name=3", "--", "printenv", "odd-name"); got != "3\n" {
		t.Errorf("a name that is none to a shell: %q", got)
	}
	got = b.ok("vm", "exec", "-n", "web", "-e", "A=caf\xe9", "-w", "/tmp", "--", "sh", "-c",
		"d=$(printf 'd\\351'); mkdir -p $d; printf %s \"$A\"")
	if want := "caf\xe9"; got != want {
		t.Errorf("a value that is no UTF-8: got %q, want %q", got, want)
	}
	if got := b.ok("vm", "exec", "-n", "web", "-w", "/tmp/d\xe9", "--", "pwd"); got != "/tmp/d\xe9\n" {
		t.Errorf("a directory that is no UTF-8: got %q", got)
	}
	got = b.ok("vm", "exec", "-n", "web", "-u", "nobody", "--", "id", "-un")
	if got != "nobody\n" {
		t.Errorf("as nobody: %q", got)
	}
	if r := b.run("vm", "exec", "-n", "web", "-u", "nosuchuser", "--", "true"); r.code == 0 {
		t.Error("an unknown user is no error")
	}
}

// With -t the command has a terminal, of the caller's size, that passes
// Ctrl-C on.
func TestExecTerminal(t *testing.T) {
	b := web(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := b.Command(ctx, "vm", "exec", "-t", "web", "--", "sh", "-c",
		`trap 'echo interrupted; exit 7' INT; stty size; tty; echo TERM=$TERM; while :; do read line; done`)
	cmd.Env = append(b.Environ(), "TERM=no-such-terminal")
	ptmx, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 101})
	if err != nil {
		t.Fatal(err)
	}
	defer ptmx.Close()
	seen := readUntil(t, ptmx, "TERM=")
	seen += readUntil(t, ptmx, "\n")
	for _, want := range []string{"33 101", "/dev/pts/", "TERM=xterm-256color"} {
		if !strings.Contains(seen, want) {
			t.Errorf("the terminal showed %q, want %q in it", seen, want)
		}
	}
	if _, err := ptmx.Write([]byte{3}); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	readUntil(t, ptmx, "interrupted")
	_ = cmd.Wait() // exit code below
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
}

// A signal that the client gets is the command's.
func TestExecSignal(t *testing.T) {
	b := web(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := b.Command(ctx, "vm", "exec", "web", "--", "sh", "-c", `trap 'echo got it; exit 9' TERM; echo ready; while :; do read line; done`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	readUntil(t, out, "ready")
	if err := exec.Command("kill", "-TERM", pidOf(cmd)).Run(); err != nil {
		t.Fatal(err)
	}
	readUntil(t, out, "got it")
	_ = cmd.Wait() // exit code below
	if code := cmd.ProcessState.ExitCode(); code != 9 {
		t.Errorf("exit code %d, want 9", code)
	}
}

// A client that is killed hangs up on its command.
func TestExecClientKilled(t *testing.T) {
	b := web(t)
	cmd := b.Command(t.Context(), "vm", "exec", "web", "--", "sh", "-c", `echo ready; exec cat /proc/self/stat -`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	readUntil(t, out, "ready")
	pid := strings.Fields(readUntil(t, out, ")"))[0]
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	b.in("web", "while kill -0 "+pid+" 2>/dev/null; do :; done")
}

func TestRunReturnsTheCommandsCode(t *testing.T) {
	b := common(t)
	// Without --cpu and --memory: the defaults.
	r := b.input("through", "run", "--rm", "--name", "once", "--", "sh", "-c", `cat; echo; nproc; sed -n 's/^MemTotal: *//p' /proc/meminfo; exit 42`)
	var cpus, memory int
	if _, err := fmt.Sscanf(r.out, "through\n%d\n%d kB\n", &cpus, &memory); r.code != 42 || err != nil {
		t.Errorf("%+v: %v", r, err)
	}
	if memory < 900<<10 || memory > 1<<20 || cpus != min(2, runtime.NumCPU()) {
		t.Errorf("%d CPUs and %d kB of memory by default", cpus, memory)
	}
	if r := b.run("vm", "show", "once"); r.code != 3 {
		t.Errorf("run --rm left the VM: %+v", r)
	}
}
