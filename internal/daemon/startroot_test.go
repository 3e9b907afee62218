package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// What starts banger-root is said so that it can be copied.
func TestStartRoot(t *testing.T) {
	dir := t.TempDir()
	exe, program, tools := filepath.Join(dir, "bin", "bangerd"), filepath.Join(dir, "lib", "banger", "banger-root"), filepath.Join(dir, "tools")
	for _, file := range []string{program, filepath.Join(tools, "sudo")} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"/nowhere:" + tools: "sudo " + program,
		"/nowhere":          fmt.Sprintf("as root, SUDO_UID=%d %s", os.Geteuid(), program),
	} {
		if got := startRoot(exe, path); got != want {
			t.Errorf("with the PATH %s: %q, want %q", path, got, want)
		}
	}
}
