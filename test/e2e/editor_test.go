package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// installed puts the VMs into ~/.ssh/config of the sandbox's user, and returns
// that file: ssh(1) itself reads the one of the user database.
func installed(t *testing.T, b box) string {
	t.Helper()
	b.ok("ssh-config", "install")
	t.Cleanup(func() { b.ok("ssh-config", "uninstall") })
	return filepath.Join(b.Dir, "home", ".ssh", "config")
}

// server is what an editor puts into a machine: it says on which port of the
// loopback it listens, and serves until its stdin ends.
const server = `use IO::Socket::INET; $| = 1;
my $l = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1", LocalPort => 0) or die;
print "listening on ", $l->sockport, ".\n";
if (!fork) { while (my $c = $l->accept) { my $line = <$c>; print $c "served $line"; close $c } exit }
while (my $line = <STDIN>) { print "echo $line" }
kill "TERM", 0;
`

// An editor's remote mode by ssh-config install: it copies a server by sftp,
// starts it and keeps its streams, reaches its port through -L, and lets it
// reach one of ours through -R.
func TestEditorsRemoteMode(t *testing.T) {
	b := web(t)
	config := installed(t, b)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "server.pl"), []byte(server), 0o600); err != nil {
		t.Fatal(err)
	}
	batch := filepath.Join(dir, "batch")
	if err := os.WriteFile(batch, []byte("put "+filepath.Join(dir, "server.pl")+" /tmp/server.pl\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "sftp", "-F", config, "-b", batch, "web.vm")

	own, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	go func() {
		for {
			c, err := own.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "from the host")
			c.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	const guestPort = 18765
	ssh := exec.CommandContext(ctx, "ssh", "-T", "-F", config, "-o", "ExitOnForwardFailure=yes",
		"-R", fmt.Sprintf("127.0.0.1:%d:%s", guestPort, own.Addr()), "web.vm", "perl /tmp/server.pl")
	in, out := start(t, ssh)
	readUntil(t, out, "listening on ")
	port := strings.TrimSuffix(readUntil(t, out, "."), ".")
	fmt.Fprintln(in, "hello") // its streams stay open
	readUntil(t, out, "echo hello\n")

	// -L to the server, more than once.
	for _, word := range []string{"one", "two"} {
		forward := exec.CommandContext(ctx, "ssh", "-F", config, "-W", "127.0.0.1:"+port, "web.vm")
		fin, fout := start(t, forward)
		fmt.Fprintln(fin, word)
		readUntil(t, fout, "served "+word+"\n")
		fin.Close()
		_ = forward.Wait() // -W ends with the server's connection, in either way
	}
	// -R to us.
	got := b.in("web", fmt.Sprintf(`perl -MIO::Socket::INET -e 'print IO::Socket::INET->new("127.0.0.1:%d")->getline'`, guestPort))
	if got != "from the host" {
		t.Errorf("through -R: %q", got)
	}
	fmt.Fprintln(in, "still there")
	readUntil(t, out, "echo still there\n")
	in.Close()
	_ = ssh.Wait() // the server ends itself by a signal
	b.in("web", "rm /tmp/server.pl")
}

func start(t *testing.T, cmd *exec.Cmd) (in io.WriteCloser, out io.Reader) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err == nil {
		out, err = cmd.StdoutPipe()
	}
	if err == nil {
		cmd.Stderr = os.Stderr
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return in, out
}

// A server over exec, as editors' plugins start theirs: no port, long-lived,
// many small messages both ways.
func TestLongLivedServerOverExec(t *testing.T) {
	b := web(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := b.Command(ctx, "vm", "exec", "web", "--", "perl", "-e", server)
	in, out := start(t, cmd)
	readUntil(t, out, "listening on ")
	for i := range 200 {
		fmt.Fprintf(in, "message %d\n", i)
		readUntil(t, out, fmt.Sprintf("echo message %d\n", i))
	}
	in.Close()
	_ = cmd.Wait() // it ends itself by a signal
	if code := cmd.ProcessState.ExitCode(); code != 128+15 {
		t.Errorf("exit code %d", code)
	}
}

// ssh -A lends the caller's agent, and only then.
func TestAgentForwarding(t *testing.T) {
	b := web(t)
	dir := t.TempDir()
	sock := filepath.Join(b.Dir, "agent") // short enough for a socket
	agent := exec.Command("ssh-agent", "-D", "-a", sock)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		agent.Process.Kill()
		agent.Wait()
		os.Remove(sock)
	})
	for { // it is ready once its socket takes connections
		if c, err := net.Dial("unix", sock); err == nil {
			c.Close()
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("ssh-agent does not listen")
		}
	}
	tool(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lent-key", "-f", filepath.Join(dir, "key"))
	add := exec.Command("ssh-add", "-q", filepath.Join(dir, "key"))
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+sock)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("ssh-add: %v\n%s", err, out)
	}
	b.Set("SSH_AUTH_SOCK", sock)
	r := b.run("vm", "ssh", "-A", "web", "--", "ssh-add -l; stat -c %a $(dirname $SSH_AUTH_SOCK)")
	if r.code != 0 || !strings.Contains(r.out, "lent-key") || !strings.HasSuffix(r.out, "\n700\n") {
		t.Errorf("with -A: %+v", r)
	}
	if r := b.run("vm", "ssh", "web", "--", "echo ${SSH_AUTH_SOCK:-none}"); r.out != "none\n" {
		t.Errorf("without -A: %+v", r)
	}
	if left := b.in("web", "ls -d /tmp/ssh-* 2>/dev/null || true"); left != "" {
		t.Errorf("left in the VM: %s", left)
	}
}
