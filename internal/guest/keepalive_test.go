package guest_test

import (
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

// TestKeepalive runs on a clock that jumps to the next timer: a connection is
// kept while the guest answers, has no timer while nothing uses it, and is
// closed when a guest that is used answers no more.
func TestKeepalive(t *testing.T) {
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
