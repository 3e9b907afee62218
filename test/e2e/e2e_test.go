// Package e2e boots real VMs with the programs that were built and the bundle
// of runtime/, and looks at them as a user does, with the CLI, ssh(1) and raw
// HTTP. Run by make test; under software emulation it takes a quarter of an
// hour.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"banger"
	"banger/internal/api/client"
	"banger/test/sandbox"
)

// limit bounds every wait: under emulation, on a loaded machine, a boot that
// takes 6 s alone has taken a minute.
const limit = 4 * time.Minute

// shared is the installation of the tests that leave no mark on it.
var shared struct {
	once sync.Once
	s    *sandbox.Sandbox
	err  error
}

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == loginProgram {
		fmt.Fprintln(os.Stderr, beLogin(os.Args[1], os.Args[2]))
		os.Exit(1)
	}
	code := m.Run()
	if shared.s != nil {
		if err := shared.s.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "the shared installation did not end clean:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// need skips the test outside make test.
func need(t *testing.T) {
	t.Helper()
	if os.Getenv("BANGER_TEST") == "" {
		t.Skip("boots real VMs: make test")
	}
}

// A box is an installation as a test uses it.
type box struct {
	*sandbox.Sandbox
	t     *testing.T
	space *space // where commands, and a daemon that they start, run; nil: in the test's own
}

// fresh returns an installation of the test's own; at the test's end nothing
// may be left of it.
func fresh(t *testing.T) box {
	t.Helper()
	need(t)
	s, err := sandbox.Make()
	if err != nil {
		t.Fatal(err)
	}
	b := box{Sandbox: s, t: t}
	t.Cleanup(func() {
		if t.Failed() {
			b.tellLog()
		}
		if _, err := os.Stat(s.State); err == nil { // deleting is quicker than an orderly stop
			b.run("vm", "delete", "--force", "--all")
		}
		if err := s.Close(); err != nil {
			t.Errorf("the installation did not end clean: %v", err)
		}
	})
	return b
}

// common returns the shared installation.
func common(t *testing.T) box {
	t.Helper()
	need(t)
	shared.once.Do(func() { shared.s, shared.err = sandbox.Make() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return box{Sandbox: shared.s, t: t}
}

// web is a VM of the shared installation that runs and has booted. Tests may
// make files in its /tmp, and change nothing else.
func web(t *testing.T) box {
	t.Helper()
	b := common(t)
	if r := b.run("vm", "show", "web", "-q"); r.code == 3 {
		b.ok("vm", "create", "--name", "web", "--cpu", "2", "--memory", "512MiB")
		b.ok("vm", "wait", "web", "--for", "booted", "--timeout", limit.String())
	}
	return b
}

// cheap are the flags of a VM that costs little.
func cheap(flags ...string) []string {
	return append([]string{"--cpu", "1", "--memory", "256MiB"}, flags...)
}

// boot creates a cheap VM that is deleted at the test's end.
func (b box) boot(name string, flags ...string) banger.VM {
	b.t.Helper()
	b.t.Cleanup(func() { b.run("vm", "delete", "--force", name) })
	b.ok(append([]string{"vm", "create", "--name", name}, cheap(flags...)...)...)
	return b.show(name)
}

// booted waits until a VM's own init has come up: before that, commands of its
// such as poweroff have nobody to talk to.
func (b box) booted(name string) {
	b.t.Helper()
	b.ok("vm", "wait", name, "--for", "booted", "--timeout", limit.String())
}

// A result is what a command did.
type result struct {
	out, err string
	code     int
}

// run runs banger.
func (b box) run(args ...string) result {
	b.t.Helper()
	return b.input("", args...)
}

// input runs banger with stdin.
func (b box) input(stdin string, args ...string) result {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := b.Command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := b.space.do(cmd.Run)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		b.t.Fatalf("banger %q: %v\n%s", args, errors.Join(err, ctx.Err()), errs.String())
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// ok runs banger, which must succeed, and returns its output.
func (b box) ok(args ...string) string {
	b.t.Helper()
	r := b.run(args...)
	if r.code != 0 {
		b.t.Fatalf("banger %q: exit code %d\n%s%s", args, r.code, r.out, r.err)
	}
	return r.out
}

// in runs a shell command in a VM, which must succeed.
func (b box) in(vm, script string) string {
	b.t.Helper()
	return strings.TrimSuffix(b.ok("vm", "exec", "-n", vm, "--", "sh", "-c", script), "\n")
}

// ends runs poweroff or reboot in a VM. systemd takes such a wish once its bus
// is there, some seconds after the VM is ready.
func (b box) ends(vm, how string) {
	b.t.Helper()
	b.ok("vm", "wait", vm, "--for", "booted", "--timeout", limit.String())
	if r := b.run("vm", "exec", "-n", vm, "--", how); r.code != 0 && r.code != 125 { // cut off in the middle
		b.t.Fatalf("%s in the guest: %+v", how, r)
	}
}

// show returns a VM as the CLI shows it.
func (b box) show(vm string) banger.VM {
	b.t.Helper()
	var v banger.VM
	if err := json.Unmarshal([]byte(b.ok("vm", "show", vm, "-o", "json")), &v); err != nil {
		b.t.Fatal(err)
	}
	return v
}

// client is a client of the daemon, which must run.
func (b box) client() *client.Client {
	b.t.Helper()
	c, err := b.Client()
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// until asks the daemon for a VM again and again, until it is as wanted.
func (b box) until(vm string, within time.Duration, wanted func(banger.VM) bool) banger.VM {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), within)
	defer cancel()
	c := b.client()
	var last banger.VM
	for ctx.Err() == nil {
		vms, err := c.ListVMs(ctx)
		if err != nil {
			break
		}
		for _, v := range vms {
			if v.Name == vm {
				if last = v; wanted(v) {
					return v
				}
			}
		}
	}
	b.t.Fatalf("%s is not as wanted within %v: %+v", vm, within, last)
	return last
}

func (b box) tellLog() {
	if log, err := os.ReadFile(b.State + "/daemon.log"); err == nil {
		lines := strings.Split(string(log), "\n")
		b.t.Logf("the daemon's log ends:\n%s", strings.Join(lines[max(0, len(lines)-25):], "\n"))
	}
}
