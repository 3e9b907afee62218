package launch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger"
	"banger/internal/cli/launch"
)

// withSudo puts a sudo in the PATH that notes how it was called.
func withSudo(t *testing.T, script string) (called func() string) {
	t.Helper()
	dir := t.TempDir()
	note := filepath.Join(dir, "called")
	text := fmt.Sprintf("#!/bin/sh\necho \"$*\" >>%s\n%s\n", note, script)
	if err := os.WriteFile(filepath.Join(dir, "sudo"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() string {
		b, err := os.ReadFile(note)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
}

// rootCopy puts a banger-root beside the launcher and returns its path.
func rootCopy(t *testing.T, l *launch.Launcher) string {
	t.Helper()
	path := filepath.Join(filepath.Dir(l.Exe), "banger-root")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStartRootOnATerminal(t *testing.T) {
	l, said := newLauncher(t)
	l.IO.InTerm = true
	path := rootCopy(t, l)
	called := withSudo(t, "")
	if err := l.StartRoot(t.Context(), "network routed needs root"); err != nil {
		t.Fatal(err)
	}
	if got := called(); got != "-- "+path {
		t.Errorf("sudo was called with %q", got)
	}
	if want := "network routed needs root: sudo " + path; !strings.Contains(said.String(), want) {
		t.Errorf("said %q, want %q", said, want)
	}
}

func TestStartRootIsRefused(t *testing.T) {
	l, _ := newLauncher(t)
	l.IO.InTerm = true
	rootCopy(t, l)
	withSudo(t, "exit 1")
	err := l.StartRoot(t.Context(), "it needs root")
	if banger.CodeOf(err) != banger.NeedsRoot || !strings.Contains(banger.AsError(err).Remedy, "sudo ") {
		t.Errorf("got %v", err)
	}
}

// A copy that its user can change must be named in no sudoers line: without a
// terminal it is not started.
func TestStartRootWithoutATerminal(t *testing.T) {
	l, _ := newLauncher(t)
	path := rootCopy(t, l)
	called := withSudo(t, "")
	err := l.StartRoot(t.Context(), "it needs root")
	if banger.CodeOf(err) != banger.NeedsRoot || !strings.Contains(banger.AsError(err).Remedy, path) {
		t.Errorf("got %v", err)
	}
	if got := called(); got != "" {
		t.Errorf("sudo was called with %q", got)
	}
}

func TestStartRootOfRootsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs a directory that only root can change")
	}
	l, said := newLauncher(t)
	dir, err := os.MkdirTemp("/root", "banger-test")
	if err != nil {
		t.Skipf("needs a directory that only root can change: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l.Exe = filepath.Join(dir, "banger")
	path := rootCopy(t, l)
	called := withSudo(t, `echo "sudo: a password is required" >&2; exit 1`)
	err = l.StartRoot(t.Context(), "it needs root")
	e := banger.AsError(err)
	if e == nil || e.Code != banger.NeedsRoot || !strings.Contains(e.Message, "a password is required") || !strings.Contains(e.Remedy, "NOPASSWD: "+path) {
		t.Errorf("got %+v", e)
	}
	if got := called(); got != "-n -- "+path {
		t.Errorf("sudo was called with %q", got)
	}
	l.IO.InTerm = true // who is not to be asked is not asked there either
	if err := l.TryRoot(t.Context(), "it needs root"); banger.CodeOf(err) != banger.NeedsRoot || said.String() != "" {
		t.Errorf("tried: %v, said %q", err, said)
	}
	withSudo(t, "")
	if err := l.TryRoot(t.Context(), "it needs root"); err != nil || !strings.Contains(said.String(), "it needs root: sudo -n "+path) {
		t.Errorf("tried: %v, said %q", err, said)
	}
	l.IO.InTerm = false
	for _, open := range []string{path, dir} {
		if err := os.Chmod(open, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := l.StartRoot(t.Context(), "it needs root"); err == nil || strings.Contains(err.Error(), "password") {
			t.Errorf("with %s open to all: %v", open, err)
		}
		if err := os.Chmod(open, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStartRootWithoutSudo(t *testing.T) {
	l, _ := newLauncher(t)
	t.Setenv("PATH", t.TempDir())
	err := l.StartRoot(t.Context(), "it needs root")
	if banger.CodeOf(err) != banger.NeedsRoot || !strings.Contains(banger.AsError(err).Remedy, "SUDO_UID=") {
		t.Errorf("got %v", err)
	}
}
