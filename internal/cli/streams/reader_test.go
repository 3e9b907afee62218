package streams_test

import (
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger/internal/cli/streams"
)

// The end of whoever reads is the end of who follows, though nothing is written.
func TestWhileRead(t *testing.T) {
	defer goleak.VerifyNone(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ended := func(ctx context.Context) bool {
		select {
		case <-ctx.Done():
			return true
		case <-time.After(20 * time.Second):
			return false
		}
	}
	ctx, stop := streams.FromFiles(os.Stdin, w, os.Stderr).WhileRead(t.Context())
	if ctx.Err() != nil {
		t.Error("it ended while it is read")
	}
	r.Close()
	if !ended(ctx) {
		t.Error("nobody reads, and it goes on")
	}
	stop()
	s, _, _, _ := streams.Test()
	for _, s := range []*streams.Streams{s, streams.FromFiles(os.Stdin, file, os.Stderr)} {
		for _, early := range []bool{false, true} {
			parent, cancel := context.WithCancel(t.Context())
			ctx, stop := s.WhileRead(parent)
			if ctx.Err() != nil {
				t.Error("a file has lost its reader")
			}
			if early {
				cancel()
			}
			stop()
			if !ended(ctx) {
				t.Error("it goes on")
			}
			cancel()
		}
	}
}
