package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/crypto/ssh"
)

// An execution is one command under way. Its goroutines end when the guest has
// closed its channel or the connection is lost, which may be after Exec has
// returned; the connection is probed until then.
type execution struct {
	conn           *Conn
	streams        Streams
	stdout, stderr gate
	exit           Exit // set before run returns nil
}

// run starts the command and stays with it until its channel is closed. The
// end of ctx closes the channel; fail ends ctx for a cause found here.
func (e *execution) run(ctx context.Context, begin func(ssh.Channel) error, fail context.CancelCauseFunc) error {
	defer e.conn.alive.use()()
	ch, reqs, err := e.conn.client.OpenChannel("session", nil)
	if refused := (*ssh.OpenChannelError)(nil); errors.As(err, &refused) {
		return fmt.Errorf("%w: another session: %s", ErrRefused, refused.Reason)
	} else if err != nil {
		return fmt.Errorf("%w: %w", ErrLost, foreign(err))
	}
	defer ch.Close()
	defer context.AfterFunc(ctx, func() { ch.Close() })()
	exited := make(chan error, 1)
	go func() { exited <- e.handle(reqs) }()

	if err := begin(ch); err != nil {
		return err
	}
	go e.sendStdin(ch, fail)
	go e.sendControl(ctx, ch)
	var output sync.WaitGroup
	output.Go(func() { copyOutput(&e.stdout, ch, fail) })
	output.Go(func() { copyOutput(&e.stderr, ch.Stderr(), fail) })
	output.Wait()
	return <-exited
}

// handle notes how the command ended, until the channel is closed.
func (e *execution) handle(reqs <-chan *ssh.Request) error {
	err := fmt.Errorf("%w: the command's channel was closed without an exit status", ErrLost)
	for r := range reqs {
		exit, ok := parseExit(r.Type, r.Payload)
		if ok {
			e.exit, err = exit, nil
		}
		if r.WantReply {
			r.Reply(ok, nil)
		}
	}
	return err
}

// maxSignalName bounds a signal's name from a guest, bytes.
const maxSignalName = 16

// parseExit reads the two requests of RFC 4254, 6.10; ok is false for others
// and for what makes no sense.
func parseExit(name string, payload []byte) (exit Exit, ok bool) {
	switch name {
	case "exit-status":
		var m struct{ Code uint32 }
		if err := ssh.Unmarshal(payload, &m); err != nil {
			return Exit{}, false
		}
		return Exit{Code: int(m.Code)}, true
	case "exit-signal":
		var m struct {
			Signal        string
			CoreDumped    bool
			Message, Lang string
		}
		if err := ssh.Unmarshal(payload, &m); err != nil || !isSignalName(m.Signal) {
			return Exit{}, false
		}
		return Exit{Signal: m.Signal}, true
	}
	return Exit{}, false
}

func isSignalName(s string) bool {
	for _, c := range s {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= maxSignalName
}

func copyOutput(to *gate, from io.Reader, fail context.CancelCauseFunc) {
	if _, err := io.Copy(to, from); err != nil {
		fail(fmt.Errorf("write output: %w", err))
	}
}

// sendStdin copies stdin until the command does not want it any more. One that
// breaks fails the command: half of it, with an end of file, would be obeyed.
func (e *execution) sendStdin(ch ssh.Channel, fail context.CancelCauseFunc) {
	if e.streams.Stdin == nil {
		ch.CloseWrite()
		return
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := e.streams.Stdin.Read(buf)
		if n > 0 {
			if _, err := ch.Write(buf[:n]); err != nil {
				return
			}
		}
		switch {
		case err == io.EOF: // only the plain one is the end
			ch.CloseWrite()
			return
		case err != nil:
			fail(fmt.Errorf("read stdin: %w", err))
			return
		}
	}
}

// sendControl passes sizes and signals on until ctx ends. Neither waits for an
// answer, nor for the window that stdin may have filled.
func (e *execution) sendControl(ctx context.Context, ch ssh.Channel) {
	resize, signals := e.streams.Resize, e.streams.Signals
	for {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-resize:
			if !ok {
				resize = nil
				continue
			}
			m := struct{ Cols, Rows, Width, Height uint32 }{Cols: uint32(size.Cols), Rows: uint32(size.Rows)}
			ch.SendRequest("window-change", false, ssh.Marshal(m))
		case name, ok := <-signals:
			if !ok {
				signals = nil
				continue
			}
			ch.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{name}))
		}
	}
}

// A gate is a writer that can be closed: what it leads to gets nothing after.
type gate struct {
	mu     sync.Mutex
	w      io.Writer // nil: thrown away
	closed bool
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return 0, io.ErrClosedPipe
	case g.w == nil:
		return len(p), nil
	}
	return g.w.Write(p)
}

// close waits for a Write that is under way.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}
