package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"banger/test/sandbox"
)

// limit is a scenario's deadline. Alone on two CPUs none takes four minutes; on a machine
// that has ten times as much to do, each takes several times as long.
const limit = 15 * time.Minute

// The three users of the machine: dev is in group kvm, plain is not, both may sudo.
const (
	dev   = "dev"
	plain = "plain"
	root  = "root"
)

// lab is what scenarios share: the image, and disks with what was built.
var lab struct {
	image image
	disks []disk
	room  chan struct{} // as many as there may be machines at a time
}

func TestMain(m *testing.M) {
	if os.Getenv("BANGER_TEST") == "" {
		os.Exit(m.Run()) // each test is skipped
	}
	code, err := withLab(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, "the lab cannot be had:", err)
		code = 1
	}
	os.Exit(code)
}

func withLab(run func() int) (code int, err error) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("/tmp", "banger-lab-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	told := make(chan os.Signal, 1)
	signal.Notify(told, os.Interrupt, syscall.SIGTERM)
	go func() { // QEMU ends with this process
		<-told
		os.RemoveAll(dir)
		os.Exit(1)
	}()
	if lab.image, err = openImage(ctx, dir); err != nil {
		return 0, err
	}
	n, err := roomFor()
	if err != nil {
		return 0, err
	}
	lab.room = make(chan struct{}, n)
	small := filepath.Join(dir, "small")
	if err := os.Mkdir(small, 0o755); err != nil {
		return 0, err
	}
	if err := smallBundle(small); err != nil {
		return 0, fmt.Errorf("make a small bundle: %w", err)
	}
	for name, from := range map[string]string{"bin": programs(), "small": small, "runtime": sandbox.Runtime()} {
		d, err := lab.image.disk(ctx, name, from)
		if err != nil {
			return 0, err
		}
		lab.disks = append(lab.disks, d)
	}
	return run(), nil
}

// A host is a fresh machine of the lab's in which banger is installed, as a test
// uses it.
type host struct {
	*testing.T
	ctx   context.Context // ends at the scenario's deadline
	m     *machine
	users map[string]*ssh.Client
	input io.Reader // of commands; nil is none
}

// A lostHost is thrown where the emulator has lost the machine.
type lostHost struct{ error }

// scenario runs f on a fresh host, beside another scenario: a machine seldom keeps more
// than one CPU busy. The test fails at its deadline, and if the lab cannot be had; never
// is it skipped for that.
//
// more make disks that the host has beside the usual ones.
func scenario(t *testing.T, f func(*host), more ...func(*testing.T) disk) {
	scenarioWithin(t, limit, f, more...)
}

func scenarioWithin(t *testing.T, limit time.Duration, f func(*host), more ...func(*testing.T) disk) {
	if os.Getenv("BANGER_TEST") == "" {
		t.Skip("boots a machine with KVM, Firecracker and device mapper: make lab")
	}
	t.Parallel()
	lab.room <- struct{}{}
	defer func() { <-lab.room }()
	alone(t, limit, f, more...)
}

// alone is scenarioWithin for what measures: beside no other, where the test is not
// parallel.
func alone(t *testing.T, limit time.Duration, f func(*host), more ...func(*testing.T) disk) {
	disks := slices.Clone(lab.disks)
	for _, build := range more {
		d := build(t)
		defer os.Remove(d.file)
		disks = append(disks, d)
	}
	err := attempt(t, limit, disks, f)
	if errors.Is(err, errEmulator) {
		t.Logf("report: %s once more: %v", t.Name(), err)
		err = attempt(t, limit, disks, f)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// roomFor returns how many machines fit into this one's memory: one at least.
func roomFor() (int, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); n == 1 {
			return max(1, (kib>>10)/(memory+memory/4)), nil // and what QEMU needs besides
		}
	}
	return 1, nil
}

func attempt(t *testing.T, limit time.Duration, disks []disk, f func(*host)) (err error) {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, fmt.Errorf("the scenario is not done after %s", limit))
	defer cancel()
	m, rootClient, err := lab.image.fresh(ctx, disks)
	if err != nil {
		return err
	}
	h := &host{T: t, ctx: ctx, m: m, users: map[string]*ssh.Client{root: rootClient}}
	defer func() {
		var lost lostHost
		if r := recover(); r != nil {
			var ok bool
			if lost, ok = r.(lostHost); !ok {
				panic(r)
			}
			err = lost.error
		}
		if t.Failed() {
			h.tell()
		}
		for _, c := range h.users {
			c.Close()
		}
		if e := m.end(); e != nil {
			t.Error(e)
		}
		t.Logf("report: lab: %-22s %4.0f s, %3.0f s of CPU", t.Name(), time.Since(began).Seconds(), m.used.Seconds())
	}()
	h.install()
	f(h)
	return nil
}

// install puts the programs where the README says, and the small bundle where they look
// for one; the real one is /lab/runtime.
func (h *host) install() {
	h.Helper()
	h.ok(root, `install -m 755 /lab/bin/banger /lab/bin/bangerd /lab/bin/banger-guest /usr/local/bin
install -D -m 755 /lab/bin/banger-root /usr/local/lib/banger/banger-root
ln -s /lab/small /usr/local/runtime`)
}

// A result is what a command did.
type result struct {
	out, err string
	code     int
}

// as runs a script of sh(1) as a user, in a login of theirs.
func (h *host) as(user, script string) result {
	h.Helper()
	c, ok := h.users[user]
	if !ok {
		var err error
		if c, err = h.m.connect(h.ctx, user); err != nil {
			h.lost(err)
		}
		h.users[user] = c
	}
	var out, stderr bytes.Buffer
	code, err := h.m.command(h.ctx, c, script, streams{in: h.input, out: &out, err: &stderr})
	if err != nil {
		h.Logf("%s: %s\n%s%s", user, script, &out, &stderr)
		h.lost(err)
	}
	return result{out.String(), stderr.String(), code}
}

// lost ends the test, or this attempt of it.
func (h *host) lost(err error) {
	h.Helper()
	if errors.Is(err, errEmulator) {
		panic(lostHost{err})
	}
	h.Fatal(err)
}

// ok runs a script that has to succeed, and returns what it wrote to stdout.
func (h *host) ok(user, script string) string {
	h.Helper()
	r := h.as(user, script)
	if r.code != 0 {
		h.Fatalf("%s: %s: exit code %d\n%s%s", user, script, r.code, r.out, r.err)
	}
	return strings.TrimSpace(r.out)
}

// logOut ends a user's connection, so that the next command is in a new login.
func (h *host) logOut(user string) {
	h.Helper()
	if c, ok := h.users[user]; ok {
		c.Close()
		delete(h.users, user)
	}
}

// tell logs what a reader of a failure needs.
func (h *host) tell() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h.Logf("the machine's serial console:\n%s", h.m.console())
	if h.users[root] == nil {
		return // it did not come back
	}
	var said bytes.Buffer
	_, err := h.m.command(ctx, h.users[root], `cd /
for f in /root/.local/state/banger /home/*/.local/state/banger /var/lib/banger; do
	for log in "$f"/daemon.log "$f"/vms/*/serial.log "$f"/vms/*/vmm.log "$f"/failed/*; do
		[ -f "$log" ] && { echo "== $log"; tail -n 60 "$log"; }
	done
done
echo "== processes"; ps -eo pid,ppid,user,stat,args | grep -E 'banger|qemu|passt|firecracker' | grep -v grep
echo "== journal"; journalctl --no-pager -n 60 -o short-monotonic`, streams{out: &said, err: &said})
	h.Logf("logs (%v):\n%s", err, &said)
}

// left is what is there of banger's on the host: processes, links, routes, rules,
// loop and mapper devices, mounts.
func (h *host) left() string {
	h.Helper()
	return h.ok(root, `ps -eo comm= | grep -E '^(banger|qemu|passt|firecracker)' | sort
ip -o link | sed 's/^[0-9]*: \([^:@]*\).*/link \1/' | grep -v -E ' (lo|eth0)$'
ip -4 route show table all | grep -v -E 'dev (lo|eth0)'
ip rule | grep -v -E 'lookup (local|main|default)'
nft -s list ruleset | sort
losetup -a
dmsetup ls | grep -v '^No devices'
awk '$5 ~ /banger/ { print "mount", $5 }' /proc/self/mountinfo
exit 0`)
}

// put copies a directory of this machine's to a user's home, under a name.
func (h *host) put(user, name, dir string) {
	h.Helper()
	var files bytes.Buffer
	tar := exec.CommandContext(h.ctx, "tar", "-c", "-C", dir, ".")
	tar.Stdout = &files
	must(h.T, tar.Run())
	h.input = &files
	h.ok(user, "mkdir "+name+" && tar -x -C "+name)
	h.input = nil
}

// programs is the directory of banger's programs.
func programs() string {
	if bin := os.Getenv("BANGER_TEST_BIN"); bin != "" {
		return bin
	}
	return filepath.Join(sandbox.Root(), "bin")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
