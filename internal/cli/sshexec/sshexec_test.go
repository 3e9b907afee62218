package sshexec_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"banger/internal/cli/sshexec"

	"golang.org/x/crypto/ssh"
)

func target() sshexec.Target {
	return sshexec.Target{
		Name: "web", ID: "1a2b3c4d", Host: "127.0.0.1", Port: 5122, User: "root",
		Identity: `/home/o"hara/100%/id_ed25519`, PublicKey: "ssh-ed25519 AAAAkey comment",
	}
}

func TestArgs(t *testing.T) {
	got, err := sshexec.Args(target(), []string{"ls", "-l; id"})
	if err != nil {
		t.Fatal(err)
	}
	want := `ssh
-F none
-o HostName=127.0.0.1
-o Port=5122
-o User=root
-o IdentityFile="/home/o\"hara/100%%/id_ed25519"
-o IdentitiesOnly=yes
-o PreferredAuthentications=publickey
-o HostKeyAlias=banger-1a2b3c4d
-o HostKeyAlgorithms=ssh-ed25519
-o StrictHostKeyChecking=yes
-o UserKnownHostsFile=none
-o GlobalKnownHostsFile=none
-o KnownHostsCommand=/bin/echo banger-1a2b3c4d ssh-ed25519 AAAAkey
-o UpdateHostKeys=no
-o LogLevel=ERROR
-- web
ls
-l; id`
	flat := strings.Join(got, "\n")
	flat = strings.NewReplacer("-F\n", "-F ", "-o\n", "-o ", "--\n", "-- ").Replace(flat)
	if flat != want {
		t.Errorf("got\n%s\nwant\n%s", flat, want)
	}
}

func TestArgsRefusesWhatWouldBeAnOption(t *testing.T) {
	for name, spoil := range map[string]func(*sshexec.Target){
		"name":  func(t *sshexec.Target) { t.Name = "-oProxyCommand=id" },
		"host":  func(t *sshexec.Target) { t.Host = "a b" },
		"user":  func(t *sshexec.Target) { t.User = "" },
		"key":   func(t *sshexec.Target) { t.PublicKey = "ssh-ed25519 AAA%h" },
		"empty": func(t *sshexec.Target) { t.PublicKey = "" },
	} {
		tg := target()
		spoil(&tg)
		if args, err := sshexec.Args(tg, nil); err == nil {
			t.Errorf("%s: %q accepted", name, args)
		}
	}
}

// The real ssh(1) gets through to a server that has the key, with the words of
// the command as they are, and refuses one that has another key.
func TestSSH(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("ssh(1) is not installed")
	}
	identity := filepath.Join(t.TempDir(), `my "key" 100%`)
	mine := writeKey(t, identity)
	host, other := newKey(t), newKey(t)
	addr := serve(t, host, mine)

	tg := target()
	tg.Port, tg.Identity = addr.Port, identity
	for _, c := range []struct {
		name string
		key  ssh.PublicKey
		want string
		ok   bool
	}{
		{"its own key", host.PublicKey(), "^-v a  b$", true},
		{"another key", other.PublicKey(), "Host key verification failed", false},
	} {
		tg.PublicKey = string(ssh.MarshalAuthorizedKey(c.key))
		args, err := sshexec.Args(tg, []string{"-v", "a ", "b"})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		out, err := cmd.CombinedOutput()
		if (err == nil) != c.ok || !regexp.MustCompile(c.want).Match(out) {
			t.Errorf("%s: %v\n%s", c.name, err, out)
		}
	}
}

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func writeKey(t *testing.T, path string) ssh.PublicKey {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// serve is an SSH server that answers every exec with its command line.
func serve(t *testing.T, host ssh.Signer, user ssh.PublicKey) *net.TCPAddr {
	t.Helper()
	conf := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if string(k.Marshal()) != string(user.Marshal()) {
			return nil, fmt.Errorf("unknown key")
		}
		return nil, nil
	}}
	conf.AddHostKey(host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answer(c, conf)
		}
	}()
	return l.Addr().(*net.TCPAddr)
}

func answer(c net.Conn, conf *ssh.ServerConfig) {
	defer c.Close()
	_, chans, reqs, err := ssh.NewServerConn(c, conf)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	for nc := range chans {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		for r := range reqs {
			if r.Type != "exec" {
				_ = r.Reply(r.Type == "env", nil)
				continue
			}
			var e struct{ Command string }
			_ = ssh.Unmarshal(r.Payload, &e)
			_ = r.Reply(true, nil)
			fmt.Fprint(ch, e.Command)
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ S uint32 }{0}))
			ch.Close()
		}
	}
}
