package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"banger"
)

// ExecStreams are the ends of a command's streams: on the client's side those
// of the user, on the daemon's side those that lead to the user.
type ExecStreams struct {
	Stdin   io.Reader // nil: the command reads end of file
	Stdout  io.Writer
	Stderr  io.Writer
	Resize  <-chan Resize // the terminal's new size; nil: never
	Signals <-chan string // names without SIG, as "INT"; nil: never
}

// ServeExec is the daemon's end of an upgraded vm.exec: it calls run with
// streams that are joined to the client over conn, sends what run returns as
// the last frame, and closes conn. It returns nil when the client got the last
// frame, else why not.
//
// The ctx of run ends when ctx ends or the client goes away. Signals and sizes
// reach run however much stdin waits unread: the client may have StdinWindow
// bytes on the way, no more until run has read them, so the reader of conn
// never waits for the command. An output that the client does not take blocks
// its Write, and so in the end the command. Of sizes only the newest is kept;
// of signals that run does not take, the first signalQueue.
func ServeExec(ctx context.Context, conn net.Conn, run func(context.Context, ExecStreams) (ExecExit, error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// A write to a client that takes nothing ends with ctx, too.
	stop := context.AfterFunc(ctx, func() { conn.Close() })

	s := &execServer{
		out:     &frameWriter{w: conn},
		stdin:   newStdinBuffer(),
		resize:  make(chan Resize, 1),
		signals: make(chan string, signalQueue),
	}
	s.stdin.ack = s.out.ack

	var reader sync.WaitGroup
	reader.Go(func() {
		// Wrapped, since the connection's end is not the end of stdin.
		err := fmt.Errorf("client of exec is gone: %w", s.read(conn))
		cancel(err)
		s.stdin.close(err)
	})
	exit, err := run(ctx, ExecStreams{
		Stdin:   s.stdin,
		Stdout:  s.out.stream(FrameStdout),
		Stderr:  s.out.stream(FrameStderr),
		Resize:  s.resize,
		Signals: s.signals,
	})
	if err != nil {
		exit = ExecExit{Error: &ErrorBody{Error: banger.AsError(err)}}
	}
	err = s.out.writeJSON(FrameExit, exit)
	if stop() {
		conn.Close()
	}
	reader.Wait()
	s.stdin.close(net.ErrClosed)
	return err
}

// signalQueue bounds the signals that wait for a command.
const signalQueue = 16

// An execServer takes apart what a client sends.
type execServer struct {
	out     *frameWriter
	stdin   *stdinBuffer
	resize  chan Resize
	signals chan string
}

// read handles the client's frames until the connection breaks or the client
// breaks the protocol. It never waits for anything else.
func (s *execServer) read(r io.Reader) error {
	buf := make([]byte, MaxFrame)
	for {
		t, p, err := ReadFrame(r, buf)
		if err != nil {
			return err
		}
		if err := s.handle(t, p); err != nil {
			return err
		}
	}
}

func (s *execServer) handle(t FrameType, p []byte) error {
	switch t {
	case FrameStdin:
		return s.stdin.put(p)
	case FrameResize:
		var size Resize
		if err := json.Unmarshal(p, &size); err != nil {
			return fmt.Errorf("resize frame: %w", err)
		}
		select { // only this goroutine sends: there is room after the drain
		case <-s.resize:
		default:
		}
		s.resize <- size
	case FrameSignal:
		if len(p) > maxSignalName {
			return errors.New("signal frame: name is too long")
		}
		select {
		case s.signals <- string(p):
		default: // the command has signalQueue of them before it already
		}
	default:
		return fmt.Errorf("frame of type %d from a client", t)
	}
	return nil
}

// maxSignalName bounds a signal's name, bytes; POSIX's longest are six.
const maxSignalName = 16
