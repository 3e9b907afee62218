package api

import (
	"errors"
	"io"
	"sync"
)

// A stdinBuffer holds what a client has sent of stdin and the command has not
// read: at most StdinWindow, by the client's promise, which it checks.
type stdinBuffer struct {
	ack func(n int) error // tells the client that n bytes more were read

	mu    sync.Mutex
	more  sync.Cond
	buf   []byte
	taken int   // read and not yet told
	err   error // what follows buf: io.EOF, or why no more comes
}

func newStdinBuffer() *stdinBuffer {
	b := &stdinBuffer{}
	b.more.L = &b.mu
	return b
}

// put adds p, which it copies; an empty p is end of file. It never waits.
func (b *stdinBuffer) put(p []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.err != nil:
		return errors.New("stdin frame after the end of stdin")
	case len(p) == 0:
		b.err = io.EOF
	case len(b.buf)+b.taken+len(p) > StdinWindow:
		return errors.New("stdin frame beyond the window")
	default:
		b.buf = append(b.buf, p...)
	}
	b.more.Signal()
	return nil
}

// close ends the stream with err, after what is there.
func (b *stdinBuffer) close(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	b.more.Broadcast()
}

func (b *stdinBuffer) Read(p []byte) (int, error) {
	b.mu.Lock()
	for len(b.buf) == 0 && b.err == nil {
		b.more.Wait()
	}
	if len(b.buf) == 0 {
		defer b.mu.Unlock()
		return 0, b.err
	}
	n := copy(p, b.buf)
	b.buf = b.buf[n:]
	b.taken += n
	var ack int
	// A quarter at a time: a key typed costs no frame, and a client that has
	// used up its window always gets one, since nothing else is left to read.
	if b.taken >= StdinWindow/4 && b.err == nil {
		ack, b.taken = b.taken, 0
	}
	b.mu.Unlock()
	if ack > 0 {
		if err := b.ack(ack); err != nil {
			b.close(err)
		}
	}
	return n, nil
}
