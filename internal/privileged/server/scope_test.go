package server_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger/internal/privileged/server"
)

// A host without a bus, and one whose bus hangs, keep nobody waiting. That it
// works where there is one takes a real systemd: see test/e2e.
func TestNoScope(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir, err := os.MkdirTemp("", "scope") // t.TempDir is too long
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	if err := server.OwnScope(t.Context(), "unix:path="+socket, user); err == nil {
		t.Error("without a bus there is a scope")
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if err := server.OwnScope(ctx, "unix:path="+socket, user); err == nil {
		t.Error("with a bus that says nothing there is a scope")
	}
}
