package server_test

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"banger/internal/network"
	"banger/internal/network/addr"
	"banger/internal/privileged"
	"banger/test/netns"
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

// Two daemons with the same tag, as with a copied state directory, do not take each
// other's networks; the next may have one whose holder is gone.
func TestSameTag(t *testing.T) {
	netns.Enter(t)
	start(t, user)
	b, _ := connect(t, user)
	second, hello := connect(t, user)
	want(t, "the second connects", hello, "ok")
	want(t, "set", b.set(config(tap(1))), "ok")
	made := netns.World()
	for _, c := range []network.Config{config(), config(tap(2)), config(tap(1))} {
		want(t, "the second's", second.set(c), fmt.Sprintf("wrong_state the network of this installation (tag beef) is that of another daemon of yours, process %d", b.cmd.Process.Pid))
	}
	if got := netns.World(); got != made {
		t.Errorf("changed:\n%s", got)
	}
	want(t, "set again", b.set(config(tap(1), tap(2))), "ok")
	other := config()
	other.Tag = "0001"
	want(t, "another tag", second.set(other), "ok")
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	b.close()
	want(t, "the second's, once the first is gone", second.set(config(tap(2))), "ok")
	want(t, "take back", second.set(config()), "ok")
	third, _ := connect(t, user)
	want(t, "of who has taken it back", third.set(config()), "ok")
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
