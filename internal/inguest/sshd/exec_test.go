package sshd_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"banger/internal/guestapi"
)

func TestExec(t *testing.T) {
	g := newGuest(t)
	cmd := g.ssh(t, []string{"-o", "SetEnv=GREETING=hello"}, `cat; echo "$GREETING $LANG $USER $(pwd)"; echo words >&2; exit 7`)
	cmd.Stdin = strings.NewReader("input\n")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("ended with %v, want status 7", err)
	}
	if want := "input\nhello C.UTF-8 dev " + g.home + "\n"; string(out) != want {
		t.Errorf("stdout %q, want %q", out, want)
	}
	if stderr.String() != "words\n" {
		t.Errorf("stderr %q", stderr.String())
	}
}

func TestLoginShell(t *testing.T) {
	g := newGuest(t)
	cmd := g.ssh(t, []string{"-T"})
	cmd.Stdin = strings.NewReader("echo $0; echo $HOME\n")
	if got, want := output(t, cmd), "-sh\n"+g.home+"\n"; got != want {
		t.Errorf("a shell said %q, want %q", got, want)
	}
}

func TestLargeOutputAndInput(t *testing.T) {
	g := newGuest(t)
	cmd := g.ssh(t, nil, "cat")
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB: more than SSH's window
	cmd.Stdin = bytes.NewReader(data)
	if out := output(t, cmd); out != string(data) {
		t.Errorf("%d bytes came back of %d, or others", len(out), len(data))
	}
}

// An execResult is how a command of banger's request ended.
type execResult struct {
	stdout, stderr string
	status         int
	signal         string
}

// vector runs e by banger's own request: with a raw channel, since
// ssh.Session knows only its own requests.
func vector(t *testing.T, c *ssh.Client, e guestapi.Exec) execResult {
	t.Helper()
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := ch.SendRequest(guestapi.ExecRequest, true, ssh.Marshal(struct{ JSON string }{string(text)})); err != nil || !ok {
		t.Fatalf("%v: refused: %v", e, err)
	}
	ch.CloseWrite()
	r := execResult{status: -1}
	stderr := make(chan string)
	go func() {
		b, _ := io.ReadAll(ch.Stderr())
		stderr <- string(b)
	}()
	stdout, _ := io.ReadAll(ch)
	r.stdout, r.stderr = string(stdout), <-stderr
	for req := range reqs {
		switch req.Type {
		case "exit-status":
			var m struct{ Code uint32 }
			ssh.Unmarshal(req.Payload, &m)
			r.status = int(m.Code)
		case "exit-signal":
			var m struct {
				Name       string
				Core       bool
				Text, Lang string
			}
			ssh.Unmarshal(req.Payload, &m)
			r.signal = m.Name
		}
	}
	return r
}

func TestVector(t *testing.T) {
	g := newGuest(t)
	c := g.client(t)
	script := filepath.Join(g.home, "plain")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		exec guestapi.Exec
		want execResult
	}{
		"unsplit":     {guestapi.Exec{Argv: []string{"printf", "[%s]", "a b", "$HOME", "", "'\"\n"}}, execResult{stdout: "[a b][$HOME][]['\"\n]"}},
		"no UTF-8":    {guestapi.Exec{Argv: []string{"sh", "-c", `printf %s%s "$1" "$A"`, "sh", "caf\xe9"}, Env: []string{"A=\xff"}}, execResult{stdout: "caf\xe9\xff"}},
		"odd names":   {guestapi.Exec{Argv: []string{"printenv", "my-var", "a b"}, Env: []string{"my-var=1", "a b=2"}}, execResult{stdout: "1\n2\n"}},
		"environment": {guestapi.Exec{Argv: []string{"sh", "-c", "echo $A$B"}, Env: []string{"A=x y", "B=="}}, execResult{stdout: "x y=\n"}},
		"directory":   {guestapi.Exec{Argv: []string{"pwd"}, Dir: "/usr"}, execResult{stdout: "/usr\n"}},
		"home":        {guestapi.Exec{Argv: []string{"pwd"}}, execResult{stdout: g.home + "\n"}},
		"own PATH":    {guestapi.Exec{Argv: []string{"true"}, Env: []string{"PATH=/nowhere"}}, execResult{stderr: "banger: true: command not found\n", status: 127}},
		"not found":   {guestapi.Exec{Argv: []string{"no-such-program"}}, execResult{stderr: "banger: no-such-program: command not found\n", status: 127}},
		"no file":     {guestapi.Exec{Argv: []string{"/no/such"}}, execResult{stderr: "banger: /no/such: command not found\n", status: 127}},
		"not for us":  {guestapi.Exec{Argv: []string{"./plain"}}, execResult{stderr: "banger: ./plain: permission denied\n", status: 126}},
		"a directory": {guestapi.Exec{Argv: []string{"/usr"}}, execResult{stderr: "banger: /usr: is a directory\n", status: 126}},
		"no dir":      {guestapi.Exec{Argv: []string{"true"}, Dir: "/no/such"}, execResult{stderr: "banger: cannot enter /no/such: no such file or directory\n", status: 126}},
		"status":      {guestapi.Exec{Argv: []string{"sh", "-c", "exit 255"}}, execResult{status: 255}},
		"exit signal": {guestapi.Exec{Argv: []string{"sh", "-c", "kill -USR1 $$"}}, execResult{status: -1, signal: "USR1"}},
		"own session": {guestapi.Exec{Argv: []string{"sh", "-c", `set -- $(cat /proc/$$/stat); test "$1" = "$6" && echo leader`}}, execResult{stdout: "leader\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := vector(t, c, test.exec); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

// What cannot be run is not refused without a word.
func TestVectorRefused(t *testing.T) {
	c := newGuest(t).client(t)
	for name, e := range map[string]guestapi.Exec{
		"no command": {},
		"zero byte":  {Argv: []string{"a\x00b"}},
		"variable":   {Argv: []string{"true"}, Env: []string{"=C"}},
	} {
		if got := vector(t, c, e); got.status != 126 || !strings.Contains(got.stderr, name) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	s := session(t, c)
	if ok, _ := s.SendRequest(guestapi.ExecRequest, true, []byte("{")); ok {
		t.Error("garbage: accepted")
	}
}

func TestSignal(t *testing.T) {
	s := session(t, newGuest(t).client(t))
	stdout, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(`trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.05; done`); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(stdout)
	if line := readLine(t, r); line != "ready" {
		t.Fatalf("said %q", line)
	}
	if err := s.Signal(ssh.SIGINT); err != nil {
		t.Fatal(err)
	}
	if line := readLine(t, r); line != "caught" {
		t.Errorf("said %q", line)
	}
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 3 {
		t.Errorf("ended with %v", err)
	}
}

func TestExitSignal(t *testing.T) {
	s := session(t, newGuest(t).client(t))
	var exit *ssh.ExitError
	if err := s.Run("kill -KILL $$"); !errors.As(err, &exit) || exit.Signal() != "KILL" {
		t.Errorf("ended with %v, want KILL", err)
	}
}

// TestHangUp: a command whose client is gone gets SIGHUP, all of its group.
func TestHangUp(t *testing.T) {
	if signal.Ignored(unix.SIGHUP) { // by nohup(1), and then by the command, too
		c := make(chan os.Signal, 1)
		signal.Notify(c, unix.SIGHUP)
		defer signal.Stop(c)
	}
	for _, lost := range []string{"connection", "channel"} {
		t.Run(lost, func(t *testing.T) {
			g := newGuest(t)
			c := g.client(t)
			s := session(t, c)
			stdout, err := s.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			fifo := filepath.Join(g.home, "fifo")
			output(t, g.tool(t, "mkfifo", fifo))
			script := fmt.Sprintf(`trap 'echo hung up >%s; exit' HUP; echo ready; while :; do sleep 0.05; done`, fifo)
			if err := s.Start(script); err != nil {
				t.Fatal(err)
			}
			readLine(t, bufio.NewReader(stdout))
			if lost == "channel" {
				s.Close()
			} else {
				c.Close()
			}
			if got := output(t, g.tool(t, "cat", fifo)); got != "hung up\n" {
				t.Errorf("the command said %q", got)
			}
		})
	}
}

// TestSlowReader: a client that does not read one command's output gets the
// others' on the same connection.
func TestSlowReader(t *testing.T) {
	c := newGuest(t).client(t)
	slow := session(t, c)
	if _, err := slow.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := slow.Start("yes"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		for range 20 {
			s, err := c.NewSession()
			if err == nil {
				_, err = s.Output("head -c 100000 /dev/zero")
			}
			if err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(deadline):
		t.Error("the others wait for the one that nobody reads")
	}
}

func TestManyChannels(t *testing.T) {
	c := newGuest(t).client(t)
	const n = 60
	errs := make(chan error, n)
	for i := range n {
		go func() {
			s, err := c.NewSession()
			if err != nil {
				errs <- err
				return
			}
			defer s.Close()
			out, err := s.Output(fmt.Sprintf("echo %d", i))
			if err == nil && string(out) != fmt.Sprintln(i) {
				err = fmt.Errorf("%d said %q", i, out)
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// TestBlockingStreams: programs do not expect streams that say EAGAIN.
func TestBlockingStreams(t *testing.T) {
	g := newGuest(t)
	for _, tty := range []string{"-T", "-tt"} {
		out := output(t, g.ssh(t, []string{tty}, "grep -h flags /proc/self/fdinfo/0 /proc/self/fdinfo/1 /proc/self/fdinfo/2"))
		for line := range strings.Lines(out) {
			var flags int
			if _, err := fmt.Sscanf(line, "flags: %o", &flags); err != nil || flags&0o4000 != 0 {
				t.Errorf("%s: %q: %v", tty, line, err)
			}
		}
	}
}
