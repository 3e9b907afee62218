package script

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"banger/internal/api"
	"banger/test/sandbox"
)

func errUnknown(name string) error { return fmt.Errorf("no condition %q", name) }

// namespace begins a command in a mount namespace of its own, as its root.
func namespace() []string {
	if os.Geteuid() == 0 {
		return []string{"unshare", "--mount"}
	}
	return []string{"unshare", "--mount", "--map-root-user"}
}

func unshares() bool {
	n := append(namespace(), "mount", "-t", "tmpfs", "tmpfs", "/mnt")
	return exec.Command(n[0], n[1:]...).Run() == nil
}

// code N COMMAND...: the command ends with exit code N.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if args[1] == "ns" { // in a mount namespace of its own
		args = slices.Concat(args[:1], namespace(), args[2:])
	}
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// api CODE OPERATION BODY: asks the daemon by raw HTTP. CODE is the code of
// the error, or ok; the answer's body is the output.
func call(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: api CODE OPERATION BODY")
	}
	lock, held, err := sandboxOf(ts).Lock()
	ts.Check(err)
	if !held {
		ts.Fatalf("no daemon runs")
	}
	c := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", lock.Socket)
		},
		DisableKeepAlives: true,
	}}
	resp, err := c.Post("http://banger/v1/"+args[1], "application/json", strings.NewReader(args[2]))
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	_, err = ts.Stdout().Write(body)
	ts.Check(err)
	var answer struct {
		Op    string
		Error struct{ Code string }
	}
	got := "ok"
	if resp.StatusCode != http.StatusOK {
		ts.Check(json.Unmarshal(body, &answer))
		got = answer.Error.Code
	} else if json.Unmarshal(body, &answer) == nil && answer.Op != "" {
		resp, err := c.Get("http://banger" + api.OpEventsPath(answer.Op, 0)) // to the operation's end
		ts.Check(err)
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		ts.Check(err)
	}
	if got != args[0] {
		ts.Fatalf("api %s %s: %s %s, want %s", args[1], args[2], resp.Status, body, args[0])
	}
}

// keys FILE: prints the paths of all fields of a JSON text, with their types.
func keys(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keys FILE")
	}
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &v))
	seen := map[string]bool{}
	walk("", v, seen)
	all := slices.Sorted(func(yield func(string) bool) {
		for k := range seen {
			if !yield(k) {
				return
			}
		}
	})
	fmt.Fprintln(ts.Stdout(), strings.Join(all, "\n"))
}

func walk(path string, v any, seen map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			walk(path+"."+k, e, seen)
		}
	case []any:
		for _, e := range v {
			walk(path+"[]", e, seen)
		}
	case nil:
		seen[path+" null"] = true
	default:
		seen[fmt.Sprintf("%s %T", path, v)] = true
	}
}

// program DIR STAMP: builds banger and bangerd of another build into DIR.
func program(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: program DIR STAMP")
	}
	ts.Check(sandbox.Build(ts.MkAbs(args[0]), args[1]))
}

// together N COMMAND...: runs the command N times at once and prints the sorted
// exit codes, one a line; stderr is the output of all.
func together(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: together N COMMAND...")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	var wait sync.WaitGroup
	codes, outputs := make([]int, n), make([]bytes.Buffer, n)
	for i := range n {
		cmd := exec.Command(filepath.Join(ts.Getenv("BIN"), args[1]), args[2:]...)
		cmd.Env, cmd.Stdout, cmd.Stderr = sandboxOf(ts).Environ(), &outputs[i], &outputs[i]
		wait.Go(func() {
			_ = cmd.Run() // its exit code says it all
			codes[i] = cmd.ProcessState.ExitCode()
		})
	}
	wait.Wait()
	slices.Sort(codes)
	for i, c := range codes {
		fmt.Fprintln(ts.Stdout(), c)
		_, err := outputs[i].WriteTo(ts.Stderr())
		ts.Check(err)
	}
}

// as UID COMMAND...: runs banger as another user, with the script's environment.
func as(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: [!] as UID COMMAND...")
	}
	uid, err := strconv.ParseUint(args[0], 10, 32)
	ts.Check(err)
	s := sandboxOf(ts)
	// The checkout may lie where others cannot go.
	bin := filepath.Join(s.Dir, "bin")
	ts.Check(os.MkdirAll(bin, 0o755))
	ts.Check(os.Chmod(bin, 0o755))
	for _, p := range []string{"banger", "bangerd"} {
		b, err := os.ReadFile(filepath.Join(s.Bin, p))
		ts.Check(err)
		ts.Check(os.WriteFile(filepath.Join(bin, p), b, 0o755))
		ts.Check(os.Chmod(filepath.Join(bin, p), 0o755))
	}
	cmd := exec.Command(filepath.Join(bin, args[1]), args[2:]...)
	cmd.Env, cmd.Dir = s.Environ(), "/"
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	if err := cmd.Run(); (err != nil) != neg {
		ts.Fatalf("as %d: %v", uid, err)
	}
}

// longpath VAR: sets VAR to a directory whose sockets' paths are too long.
func longPath(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: longpath VAR")
	}
	ts.Setenv(args[0], filepath.Join(sandboxOf(ts).Dir, strings.Repeat("long/", 20)))
}

// outlines N: the last output has N lines.
func outLines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: outlines N")
	}
	if got := strings.Count(ts.ReadFile("stdout"), "\n"); strconv.Itoa(got) != args[0] {
		ts.Fatalf("%d lines of output, want %s", got, args[0])
	}
}
