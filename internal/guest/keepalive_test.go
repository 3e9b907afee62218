package guest_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"banger/internal/guest"
)

// A queued connection writes without waiting for its reader, as TCP does and
// net.Pipe does not; both sides of SSH speak first.
type queued struct {
	net.Conn
	out    chan []byte
	closed chan struct{}
	close  func()
}

func queue(c net.Conn) *queued {
	q := &queued{Conn: c, out: make(chan []byte, 1024), closed: make(chan struct{})}
	q.close = sync.OnceFunc(func() {
		close(q.closed)
		c.Close()
	})
	go func() {
		for {
			select {
			case p := <-q.out:
				c.Write(p)
			case <-q.closed:
				return
			}
		}
	}()
	return q
}

func (q *queued) Write(p []byte) (int, error) {
	select {
	case q.out <- append([]byte(nil), p...):
		return len(p), nil
	case <-q.closed:
		return 0, net.ErrClosed
	}
}

func (q *queued) Close() error { q.close(); return nil }

// onFakeClock runs test with a connection whose time jumps to the next timer.
func onFakeClock(t *testing.T, test func(t *testing.T, g *pretendGuest, c *guest.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		g, cfg := newGuest(t, func(s *session) {
			for range s.control {
			}
		})
		cfg.Dial = func(context.Context) (net.Conn, error) {
			near, far := net.Pipe()
			served := queue(far)
			g.wg.Go(func() { g.serve(served) })
			return queue(near), nil
		}
		c, err := guest.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		test(t, g, c)
	})
}

// TestKeepalive: a connection is kept while the guest answers, has no timer
// while nothing uses it, and is closed when a guest that is used answers no more.
func TestKeepalive(t *testing.T) {
	onFakeClock(t, func(t *testing.T, g *pretendGuest, c *guest.Conn) {
		time.Sleep(24 * time.Hour) // idle
		if _, err := c.Status(t.Context()); err != nil {
			t.Fatalf("after a day without use: %v", err)
		}

		ended := make(chan error, 1)
		go func() {
			_, err := c.Exec(t.Context(), argv("sleep"), guest.Streams{})
			ended <- err
		}()
		time.Sleep(time.Hour) // answering
		select {
		case err := <-ended:
			t.Fatalf("while the guest answers: %v", err)
		default:
		}

		frozen := make(chan struct{})
		g.freeze(frozen)
		if err := <-ended; !errors.Is(err, guest.ErrLost) {
			t.Errorf("of a frozen guest: %v", err)
		}
		<-c.Done()
		close(frozen)
	})
}

// TestKeepaliveOnASlowLink: an answer that is stuck behind a command's output is no
// sign of death as long as that comes.
func TestKeepaliveOnASlowLink(t *testing.T) {
	onFakeClock(t, func(t *testing.T, g *pretendGuest, c *guest.Conn) {
		const lines = 100
		g.run = func(s *session) {
			for range lines {
				time.Sleep(10 * time.Second)
				if _, err := s.Write([]byte("a line\n")); err != nil {
					return
				}
			}
			s.exit(0)
		}
		stuck := make(chan struct{})
		g.freeze(stuck)
		var out bytes.Buffer
		if _, err := c.Exec(t.Context(), argv("slow"), guest.Streams{Stdout: &out}); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != lines {
			t.Errorf("%d bytes, %v", out.Len(), err)
		}
		<-c.Done() // nothing comes any more
		close(stuck)
	})
}

// TestKeepaliveOfAbandonedRequests: whoever asked a frozen guest has left, and
// the question does not stay open for ever.
func TestKeepaliveOfAbandonedRequests(t *testing.T) {
	onFakeClock(t, func(t *testing.T, g *pretendGuest, c *guest.Conn) {
		frozen := make(chan struct{})
		g.freeze(frozen)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Status(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		<-c.Done()
		close(frozen)
	})
}

// TestKeepaliveOfWaitBooted: a guest that boots for an hour is not taken for
// dead, one that freezes meanwhile is.
func TestKeepaliveOfWaitBooted(t *testing.T) {
	onFakeClock(t, func(t *testing.T, g *pretendGuest, c *guest.Conn) {
		go func() {
			time.Sleep(time.Hour)
			close(g.booted)
		}()
		if s, err := c.WaitBooted(t.Context()); err != nil || !s.Booted {
			t.Fatalf("after an hour: %+v, %v", s, err)
		}
		g.booted = make(chan struct{})
		frozen := make(chan struct{})
		go func() {
			time.Sleep(time.Hour)
			g.freeze(frozen)
		}()
		if _, err := c.WaitBooted(t.Context()); !errors.Is(err, guest.ErrLost) {
			t.Errorf("of a frozen guest: %v", err)
		}
		close(frozen)
	})
}
