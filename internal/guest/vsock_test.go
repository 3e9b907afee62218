package guest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"banger/internal/guest"
)

// ways counts the connections that are made by network and by vsock.
type ways struct{ network, vsock atomic.Int32 }

func count(n *atomic.Int32, dial func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		n.Add(1)
		return dial(ctx)
	}
}

func TestWaitReadyByVSock(t *testing.T) {
	refused := func(context.Context) (net.Conn, error) { return nil, errors.New("closed by the guest") }
	mute := func(ctx context.Context) (net.Conn, error) { // no driver in the guest yet, or ever
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	hangsUp := func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		return near, far.Close()
	}
	absent := func(context.Context) (net.Conn, error) { return nil, guest.ErrNoVSock }
	for name, c := range map[string]struct {
		network, vsock func(context.Context) (net.Conn, error) // nil: leads to the guest
		late           int32                                   // attempts that fail before it does
		byVSock        bool
	}{
		"both":                      {byVSock: true},
		"the network is broken":     {network: refused, byVSock: true},
		"the network says nothing":  {network: mute, byVSock: true},
		"the server listens later":  {vsock: refused, late: 3, byVSock: true},
		"nobody listens on a vsock": {vsock: refused},
		"no driver":                 {vsock: mute},
		"it hangs up":               {vsock: hangsUp},
		"there is none":             {vsock: absent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, cfg := newGuest(t, nil)
			live := cfg.Dial
			var n ways
			if c.network == nil {
				c.network = live
			}
			vsock := c.vsock
			if vsock == nil {
				vsock = live
			}
			cfg.VSock = count(&n.vsock, func(ctx context.Context) (net.Conn, error) {
				if c.late > 0 && n.vsock.Load() > c.late {
					return live(ctx)
				}
				return vsock(ctx)
			})
			cfg.Dial = count(&n.network, c.network)
			conn, s, err := guest.WaitReady(limited(t), cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if s.Launch == "" {
				t.Errorf("status %+v", s)
			}
			if name == "there is none" && n.vsock.Load() != 1 {
				t.Errorf("it was looked for %d times", n.vsock.Load())
			}
			// What it connects to later shows which way it took.
			network, byVSock := n.network.Load(), n.vsock.Load()
			close(g.booted)
			if _, err := conn.WaitBooted(limited(t)); err != nil {
				t.Fatal(err)
			}
			if took := n.vsock.Load() > byVSock; took != c.byVSock || took == (n.network.Load() > network) {
				t.Errorf("by vsock: %v", took)
			}
		})
	}
}

// A key that is not the VM's is refused there, too.
func TestVSockOfAnother(t *testing.T) {
	_, cfg := newGuest(t, nil)
	other, _ := newGuest(t, nil)
	cfg.VSock = other.dial
	cfg.Dial = func(context.Context) (net.Conn, error) { return nil, io.ErrUnexpectedEOF }
	if _, _, err := guest.WaitReady(limited(t), cfg, nil); !errors.Is(err, guest.ErrHostKey) {
		t.Errorf("got %v", err)
	}
}
