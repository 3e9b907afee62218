package host_test

import (
	"os"
	"path/filepath"
	"testing"

	"banger"
	"banger/internal/host"
)

func TestAt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "another name")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho \"$0\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	h := host.New(dir + ":/usr/bin:/bin")
	if got, err := h.At("rm", path).Look("rm"); err != nil || got != path {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := h.At("rm", path).Look("mke2fs"); got == path {
		t.Errorf("another tool is %q, %v", got, err)
	}
	if got, _ := h.Look("rm"); got == path {
		t.Error("the first host has it, too")
	}
	if h.At("rm", "") != h {
		t.Error("no place is a place")
	}
	if _, err := h.At("rm", dir).Look("rm"); banger.CodeOf(err) != banger.HostUnready {
		t.Errorf("a directory: %v", err)
	}
	if _, err := h.At("sh", "/bin/sh").Look("sh"); banger.CodeOf(err) != banger.Internal {
		t.Errorf("a tool that is not approved: %v", err)
	}
}

// A guest's console and its VMM's complaints are two files.
func TestLaunchOut(t *testing.T) {
	w, err := host.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	dir := t.TempDir()
	out, log := filepath.Join(dir, "out"), filepath.Join(dir, "log")
	if err := os.WriteFile(out, []byte("before "), 0o600); err != nil {
		t.Fatal(err)
	}
	id, err := script(t, "rm", "echo said; echo complained >&2").Launch(t.Context(), host.Cmd{Tool: "rm", Dir: "/", Out: out}, log)
	if err != nil {
		t.Fatal(err)
	}
	watch, err := w.Watch(id)
	if err != nil {
		t.Fatal(err)
	}
	<-watch.Gone
	for path, want := range map[string]string{out: "before said\n", log: "complained\n"} {
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
}
