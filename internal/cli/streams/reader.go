package streams

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// WhileRead returns a context that also ends when nobody is left to read Out: who
// follows something that has nothing to say would else hear of it with the next
// word only. A pipe and a socket tell, a file has always a reader. stop is to be
// called.
func (s *Streams) WhileRead(parent context.Context) (ctx context.Context, stop context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	if s.out == nil {
		return ctx, cancel
	}
	end, ending, err := os.Pipe()
	if err != nil { // out of descriptors: as without this
		return ctx, cancel
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		_ = control(s.out, func(out int) error {
			return control(end, func(end int) error { return hangup(ctx, out, end) })
		})
	}()
	unhook := context.AfterFunc(ctx, func() { ending.Close() })
	return ctx, func() {
		if unhook() {
			ending.Close()
		}
		<-done
		end.Close()
		cancel()
	}
}

// hangup returns when either has no other end any more.
func hangup(ctx context.Context, fds ...int) error {
	for ctx.Err() == nil {
		var p []unix.PollFd
		for _, fd := range fds {
			p = append(p, unix.PollFd{Fd: int32(fd)}) // POLLERR and POLLHUP come unasked
		}
		if n, err := unix.Poll(p, -1); n > 0 || err != unix.EINTR {
			return err
		}
	}
	return nil
}
