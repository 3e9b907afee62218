package server_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/network"
	"banger/internal/privileged"
	"banger/test/netns"
)

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
		"a port of no socket":   {strings.NewReplacer("beef", "0001", "10.77.16.0/20", "10.99.0.0/24", `"taps":[]`, `"taps":[{"vm":"00000001","address":"10.99.0.10"}],"ports":[{"vm":"00000001","guest":80}]`).Replace(good), 1, "invalid the socket of VM 00000001's port 80"},
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
