package guest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"banger/internal/guestapi"
)

// A forwarding port on the host accepts before the guest lives, and a
// connection that was made too early may hang for ever. So attempts overlap: a
// new one begins every tick, each may wait patience ticks for a first byte, and
// the first that is answered makes the others give up. Both grow with the time
// that it takes, which bounds the loss by 1/64 of it.
const (
	minTick  = 50 * time.Millisecond // what polling adds to a start
	maxTick  = 500 * time.Millisecond
	patience = 8 // connections at a time, most of them never noticed by the guest
	// handshakeLimit is for a guest that has answered: under emulation and
	// load a handshake takes seconds.
	handshakeLimit = 20 * time.Second
)

func tickAfter(elapsed time.Duration) time.Duration {
	return min(max(elapsed/64, minTick), maxTick)
}

// WaitReady connects as soon as the guest program answers StatusRequest, by its vsock
// if that works, and returns the connection and that answer. It gives up when ctx ends, when gone
// is closed (ErrGone: the VM ended) and on what no further attempt can change
// (ErrHostKey, ErrAuth, ErrVersion).
func WaitReady(ctx context.Context, cfg Config, gone <-chan struct{}) (*Conn, guestapi.Status, error) {
	p := newPoller(cfg)
	defer p.stop()
	tick := time.NewTimer(0)
	defer tick.Stop()
	var last error // of the attempts that came furthest
	for begin := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil, guestapi.Status{}, notReady(context.Cause(ctx), last)
		case <-gone:
			return nil, guestapi.Status{}, notReady(ErrGone, nil) // what the attempts met follows from it
		case <-tick.C:
			t := tickAfter(time.Since(begin))
			p.begin(ctx, t*patience)
			tick.Reset(t)
		case a := <-p.linked:
			p.link(a)
		case <-p.grace:
			p.doWithout()
		case a := <-p.answered:
			p.favour(a)
		case a := <-p.results:
			p.end(a)
			if a.err == nil {
				return a.conn, a.status, nil
			}
			if final(a.err) {
				return nil, guestapi.Status{}, a.err
			}
			if !errors.Is(a.err, errSuperseded) && !a.vsock {
				last = a.err
			}
		}
	}
}

// notReady joins why waiting ended with what the last attempt met.
func notReady(why, last error) error {
	if last == nil {
		return fmt.Errorf("wait for guest: %w", why)
	}
	return fmt.Errorf("wait for guest: %w (last attempt: %w)", why, last)
}

func final(err error) bool {
	return errors.Is(err, ErrHostKey) || errors.Is(err, ErrAuth) || errors.Is(err, ErrVersion)
}
