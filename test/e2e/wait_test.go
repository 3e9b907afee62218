package e2e

import (
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// readUntil reads until the text was seen, and returns all that was read.
func readUntil(t *testing.T, r io.Reader, text string) string {
	t.Helper()
	type read struct {
		seen string
		err  error
	}
	done := make(chan read, 1)
	go func() {
		var seen strings.Builder
		buf := make([]byte, 1)
		for !strings.HasSuffix(seen.String(), text) {
			n, err := r.Read(buf)
			seen.Write(buf[:n])
			if err != nil {
				done <- read{seen.String(), err}
				return
			}
		}
		done <- read{seen.String(), nil}
	}()
	select {
	case got := <-done:
		if got.err != nil {
			t.Fatalf("waiting for %q: %v after %q", text, got.err, got.seen)
		}
		return got.seen
	case <-time.After(limit):
		t.Fatalf("no %q within %v", text, limit)
		return ""
	}
}

func pidOf(cmd *exec.Cmd) string { return strconv.Itoa(cmd.Process.Pid) }
