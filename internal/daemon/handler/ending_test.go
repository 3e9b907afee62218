package handler_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"banger"
	"banger/internal/api"
	"banger/internal/daemon/handler"
	"banger/internal/op"
)

// The client of a command is told when the daemon ends, over a connection that
// is still open.
func TestACommandIsToldThatTheDaemonEnds(t *testing.T) {
	h := &handler.Handler{Ops: op.New(slog.New(slog.DiscardHandler), time.Now)}
	ours, theirs := net.Pipe()
	defer ours.Close()
	served := make(chan error, 1)
	go func() {
		served <- api.ServeExec(context.Background(), theirs, func(ctx context.Context, _ api.ExecStreams) (api.ExecExit, error) {
			ctx, cancel := handler.UntilEnding(h, ctx)
			defer cancel(nil)
			<-ctx.Done() // a command that would go on for ever
			return api.ExecExit{}, context.Cause(ctx)
		})
	}()
	if err := h.Ops.EndStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	kind, payload, err := api.ReadFrame(ours, make([]byte, api.MaxFrame))
	if err != nil || kind != api.FrameExit {
		t.Fatalf("frame of type %d, %v", kind, err)
	}
	var exit api.ExecExit
	if err := json.Unmarshal(payload, &exit); err != nil {
		t.Fatal(err)
	}
	if e := exit.Error; e == nil || e.Error.Code != banger.Lost || !strings.Contains(e.Error.Message, "told to end") || !strings.Contains(e.Error.Remedy, "banger ps") {
		t.Errorf("told %s", payload)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
