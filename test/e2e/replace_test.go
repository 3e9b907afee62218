package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger/test/sandbox"
)

// A newer build takes the daemon's place only once nobody's command runs over
// it, and then goes on with the same VMM.
func TestReplacedByAnotherBuild(t *testing.T) {
	b := fresh(t)
	now := b.Bin
	b.Bin = filepath.Join(b.Dir, "older")
	if err := sandbox.Build(b.Bin, "older-build"); err != nil {
		t.Fatal(err)
	}
	past := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(b.Bin, "bangerd"), past, past); err != nil {
		t.Fatal(err)
	}
	before := b.boot("stays")
	pid := b.daemonPID()

	cmd := b.Command(t.Context(), "vm", "exec", "stays", "--", "sh", "-c", `echo ready; read word; echo "heard $word"; exit 5`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	readUntil(t, out, "ready\n")
	b.Bin = now
	r := b.run("vm", "list")
	if r.code != 0 || !strings.Contains(r.out, "stays") || !strings.Contains(r.err, "until it is idle: bangerd is busy: vm.exec stays, 1 in all") {
		t.Errorf("beside a command: %+v", r)
	}
	if b.daemonPID() != pid {
		t.Error("the daemon was replaced while a command ran over it")
	}
	// Somebody at a console is no reason to wait, once the command has ended: he
	// goes on with the next daemon.
	s := b.sit("stays")
	s.says(t, "under the older build")
	if _, err := in.Write([]byte("you\n")); err != nil {
		t.Fatal(err)
	}
	if got := readUntil(t, out, "\n"); got != "heard you\n" {
		t.Errorf("the command said %q", got)
	}
	_ = cmd.Wait() // exit code below
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("the command ended with %d, want 5", code)
	}

	// The daemon sees its client go in its own time.
	for deadline := time.Now().Add(limit); b.daemonPID() == pid; {
		if time.Now().After(deadline) {
			t.Fatal("the idle daemon is not replaced")
		}
		b.ok("vm", "list", "-q")
	}
	readUntil(t, s, "going on with the console of stays")
	s.says(t, "under the newer build")
	if got := b.in("stays", "echo here"); got != "here" {
		t.Errorf("after the replacement: %q", got)
	}
	if after := b.show("stays"); after.PID != before.PID || !after.Ready {
		t.Errorf("adopted as %+v, was %+v", after, before)
	}
}
