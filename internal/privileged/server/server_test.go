package server_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
	"banger/internal/privileged"
	"banger/test/netns"
)

const (
	user  = 65534
	other = 65533
	tag   = "beef"
)

var socket = privileged.SocketPath(user)

func tap(n int) network.Tap {
	return network.Tap{VM: banger.VMID(fmt.Sprintf("%08x", n)), Addr: netip.AddrFrom4([4]byte{10, 77, 16, byte(9 + n)})}
}

func config(taps ...network.Tap) network.Config {
	return network.Config{Tag: tag, Subnet: netip.MustParsePrefix("10.77.16.0/20"), Taps: taps}
}

// start is sudo banger-root: it returns once that does. The process ends with
// the test at the latest.
func start(t *testing.T, uid uint32) (pid int) {
	t.Helper()
	return startWith(t, command(t, 0, "banger-root"), uid)
}

func startWith(t *testing.T, c *exec.Cmd, uid uint32) (pid int) {
	t.Helper()
	c.Env = []string{fmt.Sprintf("SUDO_UID=%d", uid), "PATH=/nonexistent", quick}
	c.ExtraFiles = nil
	out, err := c.CombinedOutput()
	m := regexp.MustCompile(`process (\d+)`).FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("banger-root: %v: %s", err, out)
	}
	pid, _ = strconv.Atoi(string(m[1]))
	end := watch(t, pid)
	t.Cleanup(func() {
		_ = unix.Kill(pid, unix.SIGKILL)
		end()
	})
	return pid
}

// watch returns a function that waits for the end of a process.
func watch(t *testing.T, pid int) (wait func()) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(p, 20_000); n != 1 {
			t.Errorf("process %d does not end: %v", pid, err)
		}
		unix.Close(fd)
	}
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if !strings.HasPrefix(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// The whole way: sudo starts it, it detaches, a user asks, it does it, and it
// ends when it is told to; what it made stays until it is told to take it back.
func TestLife(t *testing.T) {
	netns.Enter(t)
	before := netns.World()
	_, absent := connect(t, user)
	want(t, "nobody listens", absent, "needs_root banger-root does not run")

	inherited, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0) // as from a shell of root's
	if err != nil {
		t.Fatal(err)
	}
	pid := start(t, user)
	unix.Close(inherited)
	b, hello := connect(t, user)
	want(t, "connect", hello, "ok")
	want(t, "probe", b.ask("probe"), "ok")
	want(t, "set", b.set(config(tap(1), tap(2))), "ok")
	made := netns.World()
	if !strings.Contains(made, fmt.Sprintf("owner=%d", user)) || !strings.Contains(made, "route 10.77.16.10/32") {
		t.Errorf("not made:\n%s", made)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(string(stat))
	if err != nil || f[5] != strconv.Itoa(pid) || f[6] != "0" {
		t.Errorf("it is in session %s with terminal %s, not in one of its own: %v", f[5], f[6], err)
	}
	if env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); string(env) != "SUDO_UID=65534\x00" {
		t.Errorf("its environment is %q", env)
	}
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	for _, fd := range fds {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()))
		if !regexp.MustCompile(`^(/dev/null|/run/banger-root(/65534)?|socket:.*|anon_inode:.*|pipe:.*|/sys/fs/cgroup/.*)$`).MatchString(to) {
			t.Errorf("it has %s open", to)
		}
	}

	c := command(t, 0, "banger-root")
	c.Env, c.ExtraFiles = []string{"SUDO_UID=65534", quick}, nil
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "runs already") {
		t.Errorf("a second one: %v: %s", err, out)
	}
	wait := watch(t, pid)
	want(t, "exit", b.ask("exit"), "ok")
	wait()
	log, err := os.ReadFile("/var/log/banger-root.log")
	for _, line := range []string{`msg=started uid=65534`, `op=network.probe `, `op=network.set tag=beef subnet=10.77.16.0/20 taps=2 `, `op=root.exit `, `msg=ended`} {
		if !strings.Contains(string(log), line) {
			t.Errorf("the log has no %q: %v\n%s", line, err, log)
		}
	}
	want(t, "after the end", b.ask("probe"), "needs_root")
	if got := netns.World(); got != made {
		t.Errorf("its end changed\n%s\nto\n%s", made, got)
	}
	if _, err := os.Lstat(socket); err == nil {
		t.Error("its socket is left")
	}
	start(t, user)
	b, _ = connect(t, user)
	want(t, "take back", b.set(config()), "ok")
	if got := netns.World(); got != before {
		t.Errorf("left:\n%s", got)
	}
}

// Requests for root disks, sent by hand.
const (
	attachDisk = `{"protocol":2,"op":"disk.attach","disk":{"tag":"beef","vm":"0a1b2c3d","size_bytes":4096}}`
	detachDisk = `{"protocol":2,"op":"disk.detach","disk":{"tag":"beef","vm":"0a1b2c3d"}}`
)
