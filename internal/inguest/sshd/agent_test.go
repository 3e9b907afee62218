package sshd_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAgent: the client's ssh-agent, a real one, is reachable from a command
// for as long as its session lasts.
func TestAgent(t *testing.T) {
	g := newGuest(t)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	// short, since a socket's path may have no more than 107 bytes
	dir, err := os.MkdirTemp("/tmp", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sock := filepath.Join(dir, "agent")
	key := filepath.Join(g.dir, "key")
	// The agent ends with what it runs.
	ssh := strings.Join(append(g.options(), "-o", "IdentityAgent="+sock, "-A", "-p", g.port, "dev@127.0.0.1"), " ")
	ssh = strings.Replace(ssh, "-o IdentityAgent=none ", "", 1)
	cmd := g.tool(t, "ssh-agent", "-a", sock, "sh", "-c", "ssh-add -q "+key+" && ssh-add -l && ssh "+ssh+` 'ssh-add -l; echo $SSH_AUTH_SOCK'`)
	lines := strings.Split(strings.TrimSpace(output(t, cmd)), "\n")
	if len(lines) != 3 || lines[0] != lines[1] || !strings.HasPrefix(lines[2], tmp) {
		t.Fatalf("%q", lines)
	}
	waitGone(t, lines[2])
}
