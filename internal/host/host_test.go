package host_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger/internal/host"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit is how long a test waits for what must come.
const limit = 30 * time.Second

// script returns a host whose PATH has one tool, a shell script. Its name is
// one of the allow-list; what it does is not.
func script(t *testing.T, tool, body string) *host.Host {
	t.Helper()
	dir := t.TempDir()
	// A VM's own user must get here too.
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			break
		}
	}
	write(t, filepath.Join(dir, tool), "#!/bin/sh\n"+body+"\n", 0o755)
	return host.New(dir + ":/usr/bin:/bin")
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// await waits for an event that must come.
func await(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(limit):
		t.Fatalf("no %s within %s", what, limit)
	}
}

// line waits until a FIFO has been given a line, and returns it.
func line(t *testing.T, fifo string) string {
	t.Helper()
	got := make(chan string, 1)
	go func() { b, _ := os.ReadFile(fifo); got <- string(b) }()
	select {
	case s := <-got:
		return strings.TrimSpace(s)
	case <-time.After(limit):
		t.Fatalf("nothing in %s within %s", fifo, limit)
		return ""
	}
}

func watcher(t *testing.T) *host.Watcher {
	t.Helper()
	w, err := host.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}
