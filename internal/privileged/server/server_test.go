package server_test

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
	"banger/internal/network/addr"
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
		if !regexp.MustCompile(`^(/dev/null|/run/banger-root/65534|socket:.*|anon_inode:.*|pipe:.*|/sys/fs/cgroup/.*)$`).MatchString(to) {
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

// Who started it says whom it is for.
func TestWhose(t *testing.T) {
	netns.Enter(t)
	run := func(uid uint32, argv0 string, env ...string) string {
		c := command(t, uid, argv0)
		c.Env, c.ExtraFiles = append(env, quick), nil
		out, _ := c.CombinedOutput()
		return string(out)
	}
	for _, bad := range []string{"", "-1", "4294967295", "4294967296", "1000x", " 1", "01", "root"} {
		want(t, "SUDO_UID="+bad, run(0, "banger-root", "SUDO_UID="+bad), "banger-root: SUDO_UID ")
	}
	want(t, "as a user", run(other, "banger-root", "SUDO_UID=0"), "banger-root: this runs as root")
	// Without sudo the parent counts: this test is root.
	if out := run(0, "banger-root"); !strings.Contains(out, "for uid 0 ") {
		t.Errorf("root's child: %s", out)
	} else {
		pid, _ := strconv.Atoi(regexp.MustCompile(`process (\d+)`).FindStringSubmatch(out)[1])
		wait := watch(t, pid)
		b, hello := connect(t, 0)
		want(t, "root connects", hello, "ok")
		want(t, "root ends it", b.ask("exit"), "ok")
		wait()
	}
}

// A user who is not the one: cannot connect, see, touch or imitate.
func TestAnotherUser(t *testing.T) {
	netns.Enter(t)
	start(t, user)
	b, _ := connect(t, user)
	want(t, "set", b.set(config(tap(1))), "ok")
	made := netns.World()
	request := func(s string) string { return hex.EncodeToString([]byte(s)) }
	set := request(`{"protocol":2,"op":"network.set","network":{"tag":"beef","subnet":"10.77.16.0/20","taps":[]}}`)
	dir := privileged.SocketDir(user)
	name := addr.TapName(user, tag, tap(1).VM)
	for _, try := range [][]string{
		{"connect", socket, set, "0"},
		{"remove", socket}, {"rename", socket}, {"rename", dir}, {"list", dir}, {"lock", dir},
		{"mkdir", privileged.RunDir + "/1234"}, {"write", dir + "/x"}, {"write", privileged.RunDir + "/fault"},
		{"listen", privileged.RunDir + "/1234"},
		{"attach", name}, {"delete", name}, {"delete", addr.GatewayName(user, tag)},
		{"write", "/proc/sys/net/ipv4/conf/" + name + "/forwarding"},
	} {
		got := villain(t, other, try...)
		if !strings.Contains(got, "ermission denied") && !strings.Contains(got, "not permitted") {
			t.Errorf("%v: %s", try, got)
		}
	}
	// The user's own may attach, and may open the socket up, which helps nobody.
	want(t, "the owner attaches", villain(t, user, "attach", name), "ok")
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	want(t, "connect to an open socket", villain(t, other, "connect", socket, set, "0"), "internal")
	if got := netns.World(); got != made {
		t.Errorf("changed:\n%s", got)
	}
	// With a banger-root of its own it says the same names, and has others.
	start(t, other)
	o, _ := connect(t, other)
	want(t, "take the other's down", o.set(config()), "ok")
	want(t, "take the other's subnet", o.set(config(tap(1))), "wrong_state subnet 10.77.16.0/20 of another installation")
	if got := netns.World(); got != made {
		t.Errorf("changed:\n%s", got)
	}
	c := config(tap(1))
	c.Subnet, c.Taps[0].Addr = netip.MustParsePrefix("10.99.0.0/24"), netip.MustParseAddr("10.99.0.10")
	want(t, "one beside it", o.set(c), "ok")
	want(t, "and away", o.set(config()), "ok")
	if got := netns.World(); got != made {
		t.Errorf("changed:\n%s", got)
	}
}

// Who answers in banger-root's place is not believed.
func TestImitated(t *testing.T) {
	netns.Enter(t)
	start(t, user) // makes the directories
	if err := os.MkdirAll("/run/villain", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod("/run/villain", 0o777); err != nil {
		t.Fatal(err)
	}
	c := command(t, other, "villain", "listen", "/run/villain/socket")
	in, _ := c.StdinPipe()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = c.Wait() }()
	deadline := time.Now().Add(20 * time.Second)
	for _, err := os.Lstat("/run/villain/socket"); err != nil && time.Now().Before(deadline); _, err = os.Lstat("/run/villain/socket") {
	}
	// As if the other user had got it there: the one who listens is seen.
	if err := os.Rename("/run/villain/socket", socket); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(socket, user, 0); err != nil {
		t.Fatal(err)
	}
	_, hello := connect(t, user)
	want(t, "another's socket", hello, "host process ")
	if err := os.Chown(privileged.SocketDir(user), user, 0); err != nil {
		t.Fatal(err)
	}
	_, hello = connect(t, user)
	want(t, "another's directory", hello, "host "+privileged.SocketDir(user)+" is not used as root")
	if err := os.Chmod(privileged.RunDir, 0o777); err != nil {
		t.Fatal(err)
	}
	b := command(t, 0, "banger-root")
	b.Env, b.ExtraFiles = []string{"SUDO_UID=1", quick}, nil
	if out, err := b.CombinedOutput(); err == nil || !strings.Contains(string(out), "sudo chown root:root") {
		t.Errorf("banger-root in a directory of everybody's: %v %s", err, out)
	}
}

// What is no request is refused, and touches nothing.
func TestRefused(t *testing.T) {
	netns.Enter(t)
	pid := start(t, user)
	b, _ := connect(t, user)
	want(t, "set", b.set(config(tap(1))), "ok")
	made := netns.World()
	nulls := func() (n int) { // it closes what came after it has answered
		fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		for _, fd := range fds {
			if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name())); to == os.DevNull {
				n++
			}
		}
		return n
	}
	had := nulls()
	good := `{"protocol":2,"op":"network.set","network":{"tag":"beef","subnet":"10.77.16.0/20","taps":[]}}`
	for name, c := range map[string]struct {
		msg   string
		files int
		want  string
	}{
		"garbage":               {"\x00\xff{", 0, "invalid not a request"},
		"another protocol":      {strings.Replace(good, ":2,", ":3,", 1), 0, "invalid protocol 3 is not spoken here, 2 is"},
		"a descriptor":          {good, 1, "invalid 1 descriptors"},
		"too many descriptors":  {good, network.MaxPorts + 3, "invalid more descriptors"},
		"a port of no socket":   {strings.Replace(good, `"taps":[]`, `"taps":[{"vm":"00000001","address":"10.77.16.10"}],"ports":[{"vm":"00000001","guest":80}]`, 1), 1, "invalid the socket of VM 00000001's port 80"},
		"too long":              {good + strings.Repeat(" ", privileged.MaxMessage), 0, "invalid a message of more than"},
		"an unknown field":      {strings.Replace(good, `"op"`, `"uid":0,"op"`, 1), 0, "invalid not a request of protocol 2"},
		"an unknown operation":  {`{"protocol":2,"op":"shell"}`, 0, `invalid no operation "shell"`},
		"a public subnet":       {strings.Replace(good, "10.77.16.0", "9.77.16.0", 1), 0, "invalid subnet"},
		"a disk of no files":    {attachDisk, 0, "invalid 0 descriptors came with disk.attach, which has 2"},
		"a disk of three":       {attachDisk, 3, "invalid 3 descriptors"},
		"a disk of devices":     {attachDisk, 2, "invalid the image is not used: it is no regular file"},
		"a probe of a device":   {`{"protocol":2,"op":"disk.probe"}`, 1, "host "},
		"nothing to detach":     {strings.Replace(detachDisk, "beef", "dead", 1), 0, "ok"},
		"nothing wrong, at all": {`{"protocol":2,"op":"network.probe"}`, 0, "ok"},
	} {
		hexed := hex.EncodeToString([]byte(c.msg))
		if name == "too long" {
			continue // longer than an argument: package privileged tests it
		}
		want(t, name, villain(t, user, "connect", socket, hexed, strconv.Itoa(c.files)), c.want)
	}
	for deadline := time.Now().Add(20 * time.Second); nulls() != had; {
		if time.Now().After(deadline) {
			t.Fatalf("it has /dev/null open %d times, had %d", nulls(), had)
		}
	}
	if got := netns.World(); got != made {
		t.Errorf("changed:\n%s", got)
	}
}

// The machine's owner narrows what may be asked for; giving back always may.
func TestPolicy(t *testing.T) {
	netns.Enter(t)
	if err := unix.Mount("tmpfs", "/etc", "tmpfs", 0, "mode=0755"); err != nil { // this thread's own
		t.Fatal(err)
	}
	file := "/etc/banger/root.toml"
	if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	start(t, user)
	b, _ := connect(t, user)
	for _, c := range []struct{ policy, want string }{
		{"", "ok"},
		{"uids = [65534]\nsubnets = [\"10.77.0.0/16\"]\noperations = [\"network.set\"]", "ok"},
		{"uids = [1]", "host /etc/banger/root.toml does not allow uid 65534"},
		{"uids = []", "host /etc/banger/root.toml does not allow"},
		{"subnets = [\"10.77.17.0/24\"]", "host /etc/banger/root.toml does not allow"},
		{"subnets = [\"10.78.0.0/16\", \"10.77.16.0/24\"]", "host /etc/banger/root.toml does not allow"},
		{"operations = [\"kvm.allow\"]", "host /etc/banger/root.toml does not allow"},
		{"user = [1]", "host /etc/banger/root.toml:"},
		{"uids = ", "host /etc/banger/root.toml:"},
	} {
		if err := os.WriteFile(file, []byte(c.policy), 0o600); err != nil {
			t.Fatal(err)
		}
		want(t, c.policy, b.set(config(tap(1))), c.want)
		want(t, c.policy+": give back", b.set(config()), "ok")
	}
	for policy, refused := range map[string]string{
		"operations = [\"disk.attach\"]":               "invalid the image", // it is looked at
		"operations = [\"network.set\"]":               "host /etc/banger/root.toml does not allow",
		"uids = [1]\noperations = [\"disk.attach\"]":   "host /etc/banger/root.toml does not allow",
		"subnets = []\noperations = [\"disk.attach\"]": "invalid the image",
	} {
		if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
			t.Fatal(err)
		}
		by := func(msg string, files int) string {
			return villain(t, user, "connect", socket, hex.EncodeToString([]byte(msg)), strconv.Itoa(files))
		}
		want(t, policy+": attach", by(attachDisk, 2), refused)
		want(t, policy+": detach", by(detachDisk, 0), "ok")
	}
	for name, spoil := range map[string]func() error{
		"a user's":             func() error { return os.Chown(file, user, 0) },
		"writable":             func() error { return os.Chmod(file, 0o666) },
		"directory's a user's": func() error { return os.Chown(filepath.Dir(file), user, 0) },
	} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		want(t, name, b.set(config(tap(1))), "host "+file[:len("/etc/banger")])
		want(t, name+": give back", b.set(config()), "ok")
		for _, err := range []error{os.Chown(filepath.Dir(file), 0, 0), os.Remove(file)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(file, []byte("uids = [1]"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := command(t, 0, "banger-root")
	c.Env, c.ExtraFiles = []string{"SUDO_UID=7", quick}, nil
	if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "does not allow uid 7") {
		t.Errorf("start for a user who may not: %v %s", err, out)
	}
}
