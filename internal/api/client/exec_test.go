package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
)

// execs serves vm.exec with run, as the daemon's handler does.
func execs(t *testing.T, run func(context.Context, api.ExecStreams) (api.ExecExit, error)) *client.Client {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/vm.exec", func(w http.ResponseWriter, r *http.Request) {
		var req api.ExecRequest
		if err := api.Decode(r, &req); err != nil {
			api.WriteError(w, err)
			return
		}
		conn, err := api.Upgrade(w, r, api.StreamProtocol)
		if err != nil {
			t.Error(err)
			return
		}
		api.ServeExec(t.Context(), conn, run)
	})
	return serve(t, mux)
}

func TestExec(t *testing.T) {
	c := execs(t, func(_ context.Context, s api.ExecStreams) (api.ExecExit, error) {
		if _, err := io.Copy(s.Stdout, s.Stdin); err != nil {
			t.Error(err)
		}
		io.WriteString(s.Stderr, "done")
		return api.ExecExit{Code: 42}, nil
	})
	in := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB: sixteen windows
	var out, errOut bytes.Buffer
	exit, err := c.ExecVM(limited(t), api.ExecRequest{Stdin: true},
		api.ExecStreams{Stdin: strings.NewReader(in), Stdout: &out, Stderr: &errOut})
	if err != nil || exit.Code != 42 || out.String() != in || errOut.String() != "done" {
		t.Errorf("exit %+v, %v, %d bytes, stderr %q", exit, err, out.Len(), &errOut)
	}
}

// TestExecEndsBeforeStdin: a pipe that nobody writes to, and a reader that
// nothing interrupts, hang no exit.
func TestExecEndsBeforeStdin(t *testing.T) {
	c := execs(t, func(context.Context, api.ExecStreams) (api.ExecExit, error) {
		return api.ExecExit{Signal: "TERM"}, nil
	})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	stuck, release := io.Pipe()
	for _, in := range []io.Reader{r, stuck, nil} {
		exit, err := c.ExecVM(limited(t), api.ExecRequest{Stdin: true}, api.ExecStreams{Stdin: in})
		if err != nil || exit.Signal != "TERM" {
			t.Errorf("exit %+v, %v", exit, err)
		}
	}
	release.Close()

	// What was not read is still there for the next one.
	w.WriteString("next")
	b := make([]byte, 10)
	if n, err := r.Read(b); err != nil || string(b[:n]) != "next" {
		t.Errorf("read %q, %v", b[:n], err)
	}
}

// TestExecSignalOvertakesStdin: the command reads nothing, stdin has no end.
func TestExecSignalOvertakesStdin(t *testing.T) {
	signals, sizes := make(chan string), make(chan api.Resize, 1)
	c := execs(t, func(ctx context.Context, s api.ExecStreams) (api.ExecExit, error) {
		<-s.Resize
		select {
		case sig := <-s.Signals:
			return api.ExecExit{Signal: sig}, nil
		case <-ctx.Done():
			return api.ExecExit{}, context.Cause(ctx)
		}
	})
	in := &endless{full: make(chan struct{}), need: api.StdinWindow}
	go func() {
		<-in.full
		sizes <- api.Resize{Rows: 1, Cols: 2}
		signals <- "INT"
	}()
	exit, err := c.ExecVM(limited(t), api.ExecRequest{Stdin: true}, api.ExecStreams{Stdin: in, Signals: signals, Resize: sizes})
	if err != nil || exit.Signal != "INT" {
		t.Errorf("exit %+v, %v", exit, err)
	}
}

// endless is a stdin that says when more than need was read of it.
type endless struct {
	n, need int
	full    chan struct{}
}

func (e *endless) Read(p []byte) (int, error) {
	if e.n <= e.need && e.n+len(p) > e.need {
		close(e.full)
	}
	e.n += len(p)
	return len(p), nil
}

func TestExecFails(t *testing.T) {
	want := banger.Errorf(banger.WrongState, "connection to the guest lost").WithRemedy("banger logs web").WithLog("/log")
	c := execs(t, func(context.Context, api.ExecStreams) (api.ExecExit, error) { return api.ExecExit{}, want })
	_, err := c.ExecVM(limited(t), api.ExecRequest{}, api.ExecStreams{})
	var got *banger.Error
	if !errors.As(err, &got) || *got != *want {
		t.Errorf("got %#v", err)
	}
}

func TestExecLosesDaemon(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/vm.exec", func(w http.ResponseWriter, r *http.Request) {
		if conn, err := api.Upgrade(w, r, api.StreamProtocol); err == nil {
			api.WriteFrame(conn, api.FrameStdout, []byte("half"))
			conn.Close()
		}
	})
	var out bytes.Buffer
	_, err := serve(t, mux).ExecVM(limited(t), api.ExecRequest{}, api.ExecStreams{Stdout: &out})
	if banger.CodeOf(err) != banger.Lost || !strings.Contains(err.Error(), "connection to bangerd lost") || out.String() != "half" {
		t.Errorf("%q, %v", &out, err)
	}
}

// TestExecContext: the command is hung up on.
func TestExecContext(t *testing.T) {
	ctx, cancel := context.WithCancel(limited(t))
	hungUp := make(chan struct{})
	c := execs(t, func(serving context.Context, s api.ExecStreams) (api.ExecExit, error) {
		cancel()
		<-serving.Done()
		close(hungUp)
		return api.ExecExit{}, context.Cause(serving)
	})
	if _, err := c.ExecVM(ctx, api.ExecRequest{}, api.ExecStreams{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-hungUp
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestExecOutputBreaks(t *testing.T) {
	c := execs(t, func(_ context.Context, s api.ExecStreams) (api.ExecExit, error) {
		for {
			if _, err := s.Stdout.Write([]byte("y\n")); err != nil {
				return api.ExecExit{}, err
			}
		}
	})
	if _, err := c.ExecVM(limited(t), api.ExecRequest{}, api.ExecStreams{Stdout: broken{}}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
}

func TestUpgradeIsAsked(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/vm.show", func(w http.ResponseWriter, r *http.Request) {
		if _, err := api.Upgrade(w, r, api.StreamProtocol); err == nil {
			t.Error("upgraded a request that did not ask for it")
		}
	})
	if _, err := serve(t, mux).ShowVM(limited(t), api.VMRequest{}); banger.CodeOf(err) != banger.Invalid {
		t.Errorf("got %v", err)
	}
}
