package client

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"banger"
	"banger/internal/api"
)

// ExecVM runs a command in a VM and returns how it ended, once all its output
// was written. An error is banger's own: the command did not run, or its fate
// is unknown; an exit status other than 0 is none.
//
// Stdin is read in a goroutine of its own. A Read that is under way when the
// command ends is interrupted where Stdin has SetReadDeadline and it works, and
// otherwise left behind: its bytes are lost. An error of Stdin ends it as its
// end does, as for ssh(1): a terminal that is gone is one. Stdin is ignored, and the command
// reads end of file, unless r.Stdin is set. When ctx ends the command is hung
// up on.
func (c *Client) ExecVM(ctx context.Context, r api.ExecRequest, s api.ExecStreams) (api.ExecExit, error) {
	return c.stream(ctx, api.VMExec, r, r.Stdin, s)
}

// CopyVM moves files into a VM, their stream being s.Stdin, or out of it to
// s.Stdout. All that ExecVM says holds for it.
func (c *Client) CopyVM(ctx context.Context, r api.CopyRequest, s api.ExecStreams) (api.ExecExit, error) {
	return c.stream(ctx, api.VMCopy, r, !r.Out, s)
}

// ConsoleVM joins s to a VM's serial console until the VM is stopped or ctx ends,
// which detaches. Of s only the first three are used, as ExecVM uses them; Stderr
// is told, a line each, what happens to the VM: that it was started again. Where the
// daemon ends it is a Lost error: the next one has the same console.
func (c *Client) ConsoleVM(ctx context.Context, r api.VMRequest, s api.ExecStreams) error {
	_, err := c.stream(ctx, api.VMConsole, r, true, s)
	return err
}

// stream asks for op, which upgrades to streams, and joins s to them.
func (c *Client) stream(ctx context.Context, op string, body any, stdin bool, s api.ExecStreams) (api.ExecExit, error) {
	conn, err := c.upgrade(ctx, op, body, api.StreamProtocol)
	if err != nil {
		return api.ExecExit{}, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer func() {
		if stop() {
			conn.Close()
		}
	}()
	e := &exec{conn: conn, window: newWindow(api.StdinWindow), done: make(chan struct{})}
	var sends sync.WaitGroup
	if stdin {
		defer e.sendStdin(s.Stdin)()
	}
	sends.Go(func() { e.sendControl(s) })
	exit, err := e.receive(s)
	close(e.done)
	conn.SetWriteDeadline(time.Unix(1, 0)) // a sender may be stuck in a full socket
	sends.Wait()
	e.window.close()
	switch {
	case err == nil && exit.Error != nil && exit.Error.Error != nil:
		return api.ExecExit{}, exit.Error.Error
	case err != nil && ctx.Err() != nil:
		return api.ExecExit{}, context.Cause(ctx)
	}
	return exit, err
}

// An exec is one command's connection.
type exec struct {
	conn   net.Conn
	mu     sync.Mutex // one frame at a time
	window *window
	done   chan struct{}
}

func (e *exec) write(t api.FrameType, p []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return api.WriteFrame(e.conn, t, p)
}

// receive handles the daemon's frames up to the last.
func (e *exec) receive(s api.ExecStreams) (exit api.ExecExit, err error) {
	buf := make([]byte, api.MaxFrame)
	r := bufio.NewReaderSize(e.conn, api.MaxFrame)
	for {
		t, p, err := api.ReadFrame(r, buf)
		if err != nil {
			return exit, lost(context.Background(), err)
		}
		switch t {
		case api.FrameStdout:
			_, err = writeTo(s.Stdout, p)
		case api.FrameStderr:
			_, err = writeTo(s.Stderr, p)
		case api.FrameAck:
			if len(p) != 4 {
				return exit, banger.Errorf(banger.Internal, "acknowledgement of %d bytes from bangerd", len(p))
			}
			e.window.add(int(binary.BigEndian.Uint32(p)))
		case api.FrameExit:
			if err := json.Unmarshal(p, &exit); err != nil {
				return exit, banger.Errorf(banger.Internal, "decode exit of command: %w", err)
			}
			return exit, nil
		default:
			return exit, banger.Errorf(banger.Internal, "frame of type %d from bangerd", t)
		}
		if err != nil {
			return exit, fmt.Errorf("write output of command: %w", err)
		}
	}
}

func writeTo(w io.Writer, p []byte) (int, error) {
	if w == nil {
		return len(p), nil
	}
	return w.Write(p)
}

// sendControl passes sizes and signals on until the exec is done.
func (e *exec) sendControl(s api.ExecStreams) {
	for {
		var err error
		select {
		case <-e.done:
			return
		case size, ok := <-s.Resize:
			if !ok {
				s.Resize = nil
				continue
			}
			var b []byte
			if b, err = json.Marshal(size); err == nil {
				err = e.write(api.FrameResize, b)
			}
		case name, ok := <-s.Signals:
			if !ok {
				s.Signals = nil
				continue
			}
			err = e.write(api.FrameSignal, []byte(name))
		}
		if err != nil { // receive tells what happened
			return
		}
	}
}

// sendStdin copies r in the background. What it returns ends that, waiting
// for a Read only where it can be interrupted.
func (e *exec) sendStdin(r io.Reader) (end func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if r != nil {
			e.copyStdin(r)
		}
		e.write(api.FrameStdin, nil)
	}()
	return func() {
		d, ok := r.(interface{ SetReadDeadline(time.Time) error })
		if !ok || d.SetReadDeadline(time.Unix(1, 0)) != nil {
			return
		}
		<-ended
		d.SetReadDeadline(time.Time{})
	}
}

func (e *exec) copyStdin(r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		for p := buf[:n]; len(p) > 0; {
			k := e.window.take(len(p))
			if k == 0 || e.write(api.FrameStdin, p[:k]) != nil {
				return
			}
			p = p[k:]
		}
		if err != nil {
			return
		}
	}
}

// upgrade asks for op and takes the connection over.
func (c *Client) upgrade(ctx context.Context, op string, body any, protocol string) (net.Conn, error) {
	r, err := c.newRequest(ctx, op, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", protocol)
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, lost(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	up, err := shake(conn, r)
	if err != nil {
		conn.Close()
		return nil, lost(ctx, err)
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	return up, nil
}

func shake(conn net.Conn, r *http.Request) (net.Conn, error) {
	if err := r.Write(conn); err != nil {
		return nil, err
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		return nil, api.ReadError(resp)
	}
	if resp.Header.Get("Upgrade") != r.Header.Get("Upgrade") {
		return nil, errors.New("bangerd speaks another protocol for exec")
	}
	return api.Buffered(conn, br), nil
}
