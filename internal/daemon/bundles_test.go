package daemon_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"banger"
	"banger/internal/bundle"
	"banger/internal/daemon"
	"banger/internal/host"
)

var errTool = errors.New("the tool failed")

// A heldTool says that it began and fails once it may.
type heldTool struct{ began, goOn chan struct{} }

func (h heldTool) Run(context.Context, host.Cmd) ([]byte, error) {
	h.began <- struct{}{}
	<-h.goOn
	return nil, errTool
}

type deafReporter struct{}

func (deafReporter) Step(string)                    {}
func (deafReporter) StepDone(string, time.Duration) {}
func (deafReporter) Progress(string, int64, int64)  {}
func (deafReporter) Message(string, ...any)         {}

// Bundles are built one at a time, wherever to; one that fails lets the next begin.
func TestOneBuildAtATime(t *testing.T) {
	tool := heldTool{began: make(chan struct{}, 16), goOn: make(chan struct{})}
	build := daemon.BuildBundles(bundle.Builder{Runner: tool, Now: time.Now})
	dir := t.TempDir()
	first := make(chan error, 1)
	go func() {
		_, err := build(context.Background(), filepath.Join(dir, "one"), deafReporter{})
		first <- err
	}()
	<-tool.began
	_, err := build(t.Context(), filepath.Join(dir, "two"), deafReporter{})
	if banger.CodeOf(err) != banger.Busy || banger.AsError(err).Remedy == "" {
		t.Errorf("the second: %v", err)
	}
	close(tool.goOn)
	if err := <-first; !errors.Is(err, errTool) {
		t.Errorf("the first: %v", err)
	}
	if _, err := build(t.Context(), filepath.Join(dir, "two"), deafReporter{}); !errors.Is(err, errTool) {
		t.Errorf("after the first: %v", err)
	}
}
