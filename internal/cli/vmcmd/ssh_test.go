package vmcmd_test

import (
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"banger"
	"banger/internal/api"
)

// access is how web is reached on a port of this machine.
func access(port int) api.Access {
	return api.Access{
		VM: web, Host: "127.0.0.1", Port: port, User: "root", IdentityFile: "/state/id",
		HostPublicKey: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICnY7ONXgAx2v7hJF5ECd7LTJkwwhgoDVhrkhruceTOl",
	}
}

// An agent is lent only when that is asked for.
func TestSSHAgent(t *testing.T) {
	s := newSession(t, map[string]any{api.VMShow: web, api.VMAccess: access(1)})
	for _, c := range []struct {
		args []string
		want bool
	}{
		{[]string{"vm", "ssh", "web"}, false},
		{[]string{"vm", "ssh", "-A", "web"}, true},
		{[]string{"ssh", "-A", "web", "--", "git", "pull", "-A"}, true},
		{[]string{"ssh", "web", "--", "-A"}, false},
	} {
		if err := s.run(t.Context(), c.args...); err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(s.ssh, "ForwardAgent=yes"); got != c.want {
			t.Errorf("%q: %q", c.args, s.ssh)
		}
	}
}

func TestSSHConfigOfAVM(t *testing.T) {
	s := newSession(t, map[string]any{api.SSHConfig: api.SSHConfigInfo{Config: "Host web.vm\n"}})
	if err := s.run(t.Context(), "vm", "ssh-config", "web"); err != nil || s.out.String() != "Host web.vm\n" {
		t.Errorf("%v, %q", err, s.out)
	}
	if got := s.requests(); got != `ssh.config {"vm":"web"}` {
		t.Errorf("asked %s", got)
	}
}

// The proxy joins its streams to the VM's port, and says what is wrong where
// ssh(1) shows it.
func TestSSHProxy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		b, _ := io.ReadAll(conn) // until the other side has no more to say
		_, _ = conn.Write([]byte(strings.ToUpper(string(b))))
	}()
	s := newSession(t, map[string]any{api.VMShow: web, api.VMAccess: access(l.Addr().(*net.TCPAddr).Port)})
	s.in.WriteString("hello")
	if err := s.run(t.Context(), "vm", "ssh-proxy", "0a1b2c3d"); err != nil || s.out.String() != "HELLO" {
		t.Errorf("%v, %q", err, s.out)
	}
	off := newSession(t, map[string]any{
		api.VMShow:   named("web", banger.StateStopped),
		api.VMAccess: banger.Errorf(banger.WrongState, "web is not running").WithRemedy("banger start web"),
	})
	if err := off.run(t.Context(), "vm", "ssh-proxy", "web"); banger.CodeOf(err) != banger.WrongState {
		t.Error(err)
	}
}
