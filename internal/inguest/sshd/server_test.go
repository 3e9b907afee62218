package sshd_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"banger/internal/guestapi"
	"banger/internal/inguest/sshd"
)

// deadline ends a test that waits for something that does not come.
const deadline = 30 * time.Second

// A guest is a real server on a loopback port whose only account is the user
// that runs the test, by the name of "dev".
type guest struct {
	port    string
	dir     string // key, known_hosts
	home    string
	signer  ssh.Signer
	hostKey ssh.PublicKey
	machine *machine
}

// A machine is the pretend machine around the server.
type machine struct {
	booted chan struct{}
	ended  chan string
}

func (m *machine) Status() guestapi.Status {
	return guestapi.Status{Version: guestapi.Version, System: "starting"}
}

func (m *machine) WaitBooted(ctx context.Context) guestapi.Status {
	select {
	case <-m.booted:
	case <-ctx.Done():
	}
	return guestapi.Status{Version: guestapi.Version, Booted: true}
}

func (m *machine) Shutdown(how string) error {
	m.ended <- how
	return nil
}

func newKey(t *testing.T) (pemText []byte, signer ssh.Signer) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	pemText = pem.EncodeToMemory(block)
	if signer, err = ssh.ParsePrivateKey(pemText); err != nil {
		t.Fatal(err)
	}
	return pemText, signer
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	g := &guest{dir: t.TempDir(), home: t.TempDir(), machine: &machine{booted: make(chan struct{}), ended: make(chan string, 1)}}
	userKey, signer := newKey(t)
	hostKey, hostSigner := newKey(t)
	g.signer, g.hostKey = signer, hostSigner.PublicKey()
	g.write(t, "key", string(userKey))
	g.write(t, "etc/passwd", fmt.Sprintf("nobody:x:65534:65534::/:/bin/false\ndev:x:%d:%d:,,,:%s:/bin/sh\n", os.Geteuid(), os.Getegid(), g.home))
	g.write(t, "etc/environment", "LANG=\"C.UTF-8\"\n")
	g.write(t, "usr/share/terminfo/x/xterm-256color", "")
	srv, err := sshd.New(sshd.Config{
		HostKey: string(hostKey), AuthorizedKeys: []string{string(ssh.MarshalAuthorizedKey(signer.PublicKey()))},
		Machine: g.machine, Root: g.dir, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, g.port, _ = net.SplitHostPort(l.Addr().String())
	g.write(t, "known_hosts", "[127.0.0.1]:"+g.port+" "+string(ssh.MarshalAuthorizedKey(g.hostKey)))
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		l.Close()
		<-served
		srv.Close()
	})
	return g
}

func (g *guest) write(t *testing.T, name, content string) {
	t.Helper()
	file := filepath.Join(g.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// options are what ssh, scp and sftp are called with; the port is theirs to say.
func (g *guest) options() []string {
	return []string{"-F", "none", "-i", filepath.Join(g.dir, "key"), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
		"-o", "UserKnownHostsFile=" + filepath.Join(g.dir, "known_hosts"), "-o", "GlobalKnownHostsFile=none",
		"-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"}
}

// ssh is the real ssh(1); args follow its options and begin with more of them.
func (g *guest) ssh(t *testing.T, more []string, command ...string) *exec.Cmd {
	t.Helper()
	args := append(g.options(), "-p", g.port)
	args = append(args, more...)
	args = append(args, "dev@127.0.0.1")
	return g.tool(t, "ssh", append(args, command...)...)
}

// tool is a real program of the host, ended at the deadline.
func (g *guest) tool(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = g.dir
	cmd.WaitDelay = time.Second
	return cmd
}

// output runs cmd, which must succeed.
func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\nstdout: %q\nstderr: %q", strings.Join(cmd.Args, " "), err, out, stderr.String())
	}
	return string(out)
}

// client is a connection by x/crypto/ssh, for what ssh(1) cannot say.
func (g *guest) client(t *testing.T) *ssh.Client {
	t.Helper()
	c, err := g.dial(g.signer, "dev")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (g *guest) dial(signer ssh.Signer, user string) (*ssh.Client, error) {
	return ssh.Dial("tcp", "127.0.0.1:"+g.port, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(g.hostKey), Timeout: deadline,
	})
}

func session(t *testing.T, c *ssh.Client) *ssh.Session {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// readLine returns the next line of r without its end.
func readLine(t *testing.T, r io.ByteReader) string {
	t.Helper()
	var line []byte
	for {
		b, err := r.ReadByte()
		if err != nil {
			t.Fatalf("read line: %v after %q", err, line)
		}
		if b == '\n' {
			return strings.TrimRight(string(line), "\r")
		}
		line = append(line, b)
	}
}

// waitGone returns once file is gone.
func waitGone(t *testing.T, file string) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < deadline; time.Sleep(time.Millisecond) {
		if _, err := os.Lstat(file); err != nil {
			return
		}
	}
	t.Errorf("%s is still there", file)
}
