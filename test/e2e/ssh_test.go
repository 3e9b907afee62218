package e2e

import (
	"bytes"
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

// sshConfig writes the block of `banger vm ssh-config` into a file; the VM is
// NAME.vm in it.
func sshConfig(t *testing.T, b box, vm string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(b.ok("vm", "ssh-config", vm)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestSSH(t *testing.T) {
	b := web(t)
	r := b.run("vm", "ssh", "web", "--", "echo $((6*7)); exit 3")
	if r.out != "42\n" || r.code != 3 {
		t.Errorf("%+v", r)
	}
	r = b.input("echo from a login shell: $0\n", "ssh", "web")
	if !strings.Contains(r.out, "from a login shell") || r.code != 0 {
		t.Errorf("%+v", r)
	}
}

// A machine in the middle has another host key: ssh(1) refuses it.
func TestSSHVerifiesTheHostKey(t *testing.T) {
	b := web(t)
	config := sshConfig(t, b, "web")
	known := filepath.Join(b.State, "ssh", "known_hosts")
	keys, err := os.ReadFile(known)
	if err != nil {
		t.Fatal(err)
	}
	for name, wrong := range map[string][]byte{"another key": otherKeys(keys), "no key": nil} {
		file := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(file, wrong, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "ssh", "-F", config, "-o", "UserKnownHostsFile="+file, "web.vm", "true").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "verification failed") {
			t.Errorf("%s: ssh logged in: %v\n%s", name, err, out)
		}
	}
	tool(t, "ssh", "-F", config, "web.vm", "true")
}

// otherKeys turns a bit of each key, which stays base64.
func otherKeys(known []byte) []byte {
	known = bytes.Clone(known)
	const begin = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"
	for at := 0; ; {
		i := bytes.Index(known[at:], []byte(begin))
		if i < 0 {
			return known
		}
		at += i + len(begin) + 5
		known[at] ^= 1
	}
}

func TestFileCopies(t *testing.T) {
	b := web(t)
	config := sshConfig(t, b, "web")
	dir := t.TempDir()
	local := filepath.Join(dir, "local file")
	content := bytes.Repeat([]byte("banger \x00\xff"), 100_000)
	if err := os.WriteFile(local, content, 0o640); err != nil {
		t.Fatal(err)
	}
	same := func(got string) {
		t.Helper()
		b, err := os.ReadFile(got)
		if err != nil || !bytes.Equal(b, content) {
			t.Errorf("%s differs (%d bytes, %v)", got, len(b), err)
		}
	}
	t.Run("scp", func(t *testing.T) {
		tool(t, "scp", "-F", config, local, "web.vm:/tmp/by-scp")
		tool(t, "scp", "-F", config, "web.vm:/tmp/by-scp", filepath.Join(dir, "scp"))
		same(filepath.Join(dir, "scp"))
	})
	t.Run("scp, old protocol", func(t *testing.T) {
		tool(t, "scp", "-O", "-F", config, local, "web.vm:/tmp/by-old-scp")
		tool(t, "scp", "-O", "-F", config, "web.vm:/tmp/by-old-scp", filepath.Join(dir, "old-scp"))
		same(filepath.Join(dir, "old-scp"))
	})
	t.Run("sftp", func(t *testing.T) {
		batch := filepath.Join(dir, "batch")
		text := fmt.Sprintf("put %q /tmp/by-sftp\nmkdir /tmp/by-sftp.d\nrename /tmp/by-sftp /tmp/by-sftp.d/f\nls -l /tmp/by-sftp.d\nget /tmp/by-sftp.d/f %q\nrm /tmp/by-sftp.d/f\nrmdir /tmp/by-sftp.d\n",
			local, filepath.Join(dir, "sftp"))
		if err := os.WriteFile(batch, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		tool(t, "sftp", "-F", config, "-b", batch, "web.vm")
		same(filepath.Join(dir, "sftp"))
	})
	t.Run("rsync", func(t *testing.T) {
		lend(t, config, "rsync") // it is needed on both sides
		tool(t, "rsync", "-a", "-e", "ssh -F "+config, "--rsync-path=sh /tmp/lent/rsync.sh", local, "web.vm:/tmp/by-rsync/")
		tool(t, "rsync", "-a", "-e", "ssh -F "+config, "--rsync-path=sh /tmp/lent/rsync.sh", "web.vm:/tmp/by-rsync/local file", filepath.Join(dir, "rsync"))
		same(filepath.Join(dir, "rsync"))
	})
}

// lend copies a program of the host with its libraries to /tmp/lent of the VM;
// /tmp/lent/NAME.sh runs it there.
func lend(t *testing.T, config, name string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "lent")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	loader := ""
	for _, word := range append(strings.Fields(tool(t, "ldd", path)), path) {
		if !strings.HasPrefix(word, "/") {
			continue
		}
		if strings.Contains(word, "/ld-linux") {
			loader = filepath.Base(word)
		}
		content, err := os.ReadFile(word)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(word)), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf("exec /tmp/lent/%s --library-path /tmp/lent /tmp/lent/%s \"$@\"\n", loader, name)
	if err := os.WriteFile(filepath.Join(dir, name+".sh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	tool(t, "scp", "-q", "-r", "-F", config, dir, "web.vm:/tmp/")
}

// ssh -L reaches a service on the guest's loopback.
func TestLocalForwarding(t *testing.T) {
	b := web(t)
	config := sshConfig(t, b, "web")
	// -W joins ssh's streams to the guest's own SSH port: any server with a banner will do.
	cmd := exec.CommandContext(t.Context(), "ssh", "-F", config, "-W", "127.0.0.1:5122", "web.vm")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	readUntil(t, out, "SSH-2.0-")
	in.Close()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	forward := exec.CommandContext(ctx, "ssh", "-F", config, "-o", "ExitOnForwardFailure=yes",
		"-L", fmt.Sprintf("127.0.0.1:%d:127.0.0.1:5122", port), "web.vm", "echo forwarding; cat")
	fout, err := forward.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	fin, err := forward.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := forward.Start(); err != nil {
		t.Fatal(err)
	}
	readUntil(t, fout, "forwarding")
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	readUntil(t, conn, "SSH-2.0-")
	conn.Close()
	fin.Close()
	if _, err := io.Copy(io.Discard, fout); err != nil {
		t.Fatal(err)
	}
	if err := forward.Wait(); err != nil {
		t.Fatal(err)
	}
}
