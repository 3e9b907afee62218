package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger"
	"banger/internal/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served runs ServeExec, and returns the client's end and what it returned.
func served(t *testing.T, run func(context.Context, api.ExecStreams) (api.ExecExit, error)) (net.Conn, <-chan error) {
	t.Helper()
	client, server := net.Pipe()
	client.SetDeadline(time.Now().Add(30 * time.Second)) // ends a test that hangs
	t.Cleanup(func() { client.Close() })
	result := make(chan error, 1)
	go func() { result <- api.ServeExec(t.Context(), server, run) }()
	return client, result
}

func send(t *testing.T, c net.Conn, typ api.FrameType, p []byte) {
	t.Helper()
	if err := api.WriteFrame(c, typ, p); err != nil {
		t.Fatal(err)
	}
}

// finish reads to the exit, and returns it and what came as output.
func finish(t *testing.T, c net.Conn) (exit api.ExecExit, out map[api.FrameType][]byte) {
	t.Helper()
	out = make(map[api.FrameType][]byte)
	buf := make([]byte, api.MaxFrame)
	for {
		typ, p, err := api.ReadFrame(c, buf)
		if err != nil {
			t.Fatal(err)
		}
		if typ == api.FrameExit {
			if err := json.Unmarshal(p, &exit); err != nil {
				t.Fatal(err)
			}
			return exit, out
		}
		out[typ] = append(out[typ], p...)
	}
}

func TestServeExec(t *testing.T) {
	c, result := served(t, func(_ context.Context, s api.ExecStreams) (api.ExecExit, error) {
		in, err := io.ReadAll(s.Stdin)
		if err != nil {
			t.Error(err)
		}
		s.Stdout.Write(bytes.Repeat(in, 20_000)) // more than a frame
		s.Stdout.Write(nil)                      // is no end of file
		s.Stderr.Write([]byte("oops"))
		return api.ExecExit{Code: 3}, nil
	})
	send(t, c, api.FrameStdin, []byte("hello"))
	send(t, c, api.FrameStdin, nil)
	exit, out := finish(t, c)
	if exit.Code != 3 || len(out[api.FrameStdout]) != 100_000 || string(out[api.FrameStderr]) != "oops" {
		t.Errorf("exit %+v, %d bytes, %q", exit, len(out[api.FrameStdout]), out[api.FrameStderr])
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestServeExecTellsFailure(t *testing.T) {
	c, _ := served(t, func(context.Context, api.ExecStreams) (api.ExecExit, error) {
		return api.ExecExit{}, banger.Errorf(banger.WrongState, "gone").WithRemedy("banger start")
	})
	exit, _ := finish(t, c)
	if exit.Error == nil || *exit.Error.Error != (banger.Error{Code: banger.WrongState, Message: "gone", Remedy: "banger start"}) {
		t.Errorf("exit %+v", exit)
	}
}

// TestSignalOvertakesStdin: the window is full, the command reads nothing.
func TestSignalOvertakesStdin(t *testing.T) {
	c, _ := served(t, func(ctx context.Context, s api.ExecStreams) (api.ExecExit, error) {
		select {
		case sig := <-s.Signals:
			if size := <-s.Resize; size != (api.Resize{Rows: 3, Cols: 4}) {
				t.Errorf("size %+v is not the newest", size)
			}
			return api.ExecExit{Signal: sig}, nil
		case <-ctx.Done():
			return api.ExecExit{}, context.Cause(ctx)
		}
	})
	for range api.StdinWindow / api.MaxFrame {
		send(t, c, api.FrameStdin, make([]byte, api.MaxFrame))
	}
	send(t, c, api.FrameResize, []byte(`{"rows":1,"cols":2}`))
	send(t, c, api.FrameResize, []byte(`{"rows":3,"cols":4}`))
	send(t, c, api.FrameSignal, []byte("INT"))
	if exit, _ := finish(t, c); exit.Signal != "INT" {
		t.Errorf("exit %+v", exit)
	}
}

// TestClientGoesAway, by itself or by breaking the protocol.
func TestClientGoesAway(t *testing.T) {
	for name, leave := range map[string]func(c net.Conn){
		"closes":        func(c net.Conn) { c.Close() },
		"cuts a frame":  func(c net.Conn) { c.Write([]byte{0, 0}); c.Close() },
		"sends stdout":  func(c net.Conn) { api.WriteFrame(c, api.FrameStdout, nil) },
		"sends no size": func(c net.Conn) { api.WriteFrame(c, api.FrameResize, []byte("big")) },
		"sends no name": func(c net.Conn) { api.WriteFrame(c, api.FrameSignal, make([]byte, 100)) },
		"goes on at EOF": func(c net.Conn) {
			api.WriteFrame(c, api.FrameStdin, nil)
			api.WriteFrame(c, api.FrameStdin, []byte("x"))
		},
		"overruns": func(c net.Conn) {
			for range api.StdinWindow/api.MaxFrame + 1 {
				api.WriteFrame(c, api.FrameStdin, make([]byte, api.MaxFrame))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, result := served(t, func(ctx context.Context, s api.ExecStreams) (api.ExecExit, error) {
				<-ctx.Done()
				for { // to its end: nobody waits for a client that is gone
					_, err := s.Stdin.Read(make([]byte, 64<<10))
					if err == io.EOF && name != "goes on at EOF" {
						t.Error("a client that is gone looks like the end of stdin")
					}
					if err != nil {
						break
					}
				}
				return api.ExecExit{}, context.Cause(ctx)
			})
			leave(c)
			if err := <-result; err == nil {
				t.Error("the client got an exit")
			}
		})
	}
}

// TestClientTakesNothing: its connection is closed when ctx ends.
func TestClientTakesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	client, server := net.Pipe()
	defer client.Close()
	err := api.ServeExec(ctx, server, func(_ context.Context, s api.ExecStreams) (api.ExecExit, error) {
		cancel()
		_, err := s.Stdout.Write([]byte("hello"))
		return api.ExecExit{}, err
	})
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}
