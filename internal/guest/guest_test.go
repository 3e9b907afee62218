package guest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"banger/internal/guest"
	"banger/internal/guestapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDialVerifiesBothSides(t *testing.T) {
	t.Run("host key", func(t *testing.T) {
		_, cfg := newGuest(t, nil)
		cfg.HostKey = newKey(t).PublicKey()
		_, err := guest.Dial(limited(t), cfg)
		if !errors.Is(err, guest.ErrHostKey) {
			t.Errorf("wrong host key: %v", err)
		}
	})
	t.Run("user key", func(t *testing.T) {
		_, cfg := newGuest(t, nil)
		cfg.Signer = newKey(t)
		_, err := guest.Dial(limited(t), cfg)
		if !errors.Is(err, guest.ErrAuth) || errors.Is(err, guest.ErrHostKey) {
			t.Errorf("wrong user key: %v", err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		_, cfg := newGuest(t, nil)
		cfg.Dial = func(context.Context) (net.Conn, error) {
			near, far := net.Pipe()
			return near, far.Close()
		}
		_, err := guest.Dial(limited(t), cfg)
		if err == nil || errors.Is(err, guest.ErrAuth) || errors.Is(err, guest.ErrHostKey) {
			t.Errorf("closed connection: %v", err)
		}
	})
}

// An emulated CPU is spared AES.
func TestCipher(t *testing.T) {
	for emulated, aes := range map[bool]bool{true: false, false: true} {
		_, cfg := newGuest(t, nil)
		cfg.Emulated = emulated
		c, err := guest.Dial(limited(t), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := guest.Cipher(c); strings.HasPrefix(got, "aes") != aes {
			t.Errorf("emulated %v: %s", emulated, got)
		}
		c.Close()
	}
}

// TestDialSpeaksFirst answers only a client that has sent its banner, as the
// user-mode networks do which finish no connection before that.
func TestDialSpeaksFirst(t *testing.T) {
	g, cfg := newGuest(t, nil)
	dial := cfg.Dial
	cfg.Dial = func(ctx context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		g.wg.Go(func() {
			defer far.Close()
			first := make([]byte, 4)
			if _, err := io.ReadFull(far, first); err != nil {
				return
			}
			real, err := dial(ctx)
			if err != nil {
				return
			}
			defer real.Close()
			real.Write(first)
			g.wg.Go(func() { io.Copy(real, far); real.Close() })
			io.Copy(far, real)
		})
		return near, nil
	}
	c, err := guest.Dial(limited(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestDialEndsWithContext(t *testing.T) {
	_, cfg := newGuest(t, nil)
	ctx, cancel := context.WithCancel(limited(t))
	cfg.Dial = silent(t, func(int) { cancel() })
	if _, err := guest.Dial(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("dial of a silent guest: %v", err)
	}
}

// silent is a port that accepts and then says nothing, as a forwarding one
// does before the guest lives; each dial is told with its number.
func silent(t *testing.T, dialed func(n int)) func(context.Context) (net.Conn, error) {
	var n atomic.Int32
	return func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		t.Cleanup(func() { far.Close() })
		go func() {
			io.ReadFull(far, make([]byte, 4)) // the client has spoken
			dialed(int(n.Add(1)))
			io.Copy(io.Discard, far)
		}()
		return near, nil
	}
}

func TestWaitReady(t *testing.T) {
	g, cfg := newGuest(t, nil)
	live := cfg.Dial
	var n atomic.Int32
	dead := silent(t, func(int) {})
	cfg.Dial = func(ctx context.Context) (net.Conn, error) {
		switch i := n.Add(1); {
		case i < 3:
			return nil, os.ErrDeadlineExceeded // nobody listens
		case i < 12:
			return dead(ctx) // more than may wait at a time
		}
		return live(ctx)
	}
	c, s, err := guest.WaitReady(limited(t), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s.Version != g.version || s.Launch == "" {
		t.Errorf("status %+v", s)
	}
}

func TestWaitReadyGivesUp(t *testing.T) {
	t.Run("VM is gone", func(t *testing.T) {
		_, cfg := newGuest(t, nil)
		gone := make(chan struct{})
		cfg.Dial = silent(t, func(n int) {
			if n == 3 {
				close(gone)
			}
		})
		if _, _, err := guest.WaitReady(limited(t), cfg, gone); !errors.Is(err, guest.ErrGone) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("context", func(t *testing.T) {
		_, cfg := newGuest(t, nil)
		ctx, cancel := context.WithCancel(limited(t))
		cfg.Dial = silent(t, func(n int) {
			if n == 3 {
				cancel()
			}
		})
		if _, _, err := guest.WaitReady(ctx, cfg, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("host key", func(t *testing.T) {
		_, cfg := newGuest(t, nil)
		cfg.HostKey = newKey(t).PublicKey()
		if _, _, err := guest.WaitReady(limited(t), cfg, nil); !errors.Is(err, guest.ErrHostKey) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("user key", func(t *testing.T) {
		_, cfg := newGuest(t, nil)
		cfg.Signer = newKey(t)
		if _, _, err := guest.WaitReady(limited(t), cfg, nil); !errors.Is(err, guest.ErrAuth) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("version", func(t *testing.T) {
		g, cfg := newGuest(t, nil)
		g.version = guestapi.Version + 1
		if _, _, err := guest.WaitReady(limited(t), cfg, nil); !errors.Is(err, guest.ErrVersion) {
			t.Errorf("got %v", err)
		}
	})
}

// TestWaitBootedHoldsUpNothing: the guest answers global requests in order.
func TestWaitBootedHoldsUpNothing(t *testing.T) {
	c, g := connect(t, nil)
	ctx := limited(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if s, err := c.WaitBooted(ctx); err != nil || !s.Booted {
			t.Errorf("WaitBooted: %+v, %v", s, err)
		}
	})
	if _, err := c.Status(ctx); err != nil {
		t.Error(err)
	}
	if err := c.Shutdown(ctx, "poweroff"); err != nil {
		t.Error(err)
	}
	if how := <-g.shutdown; how != "poweroff" {
		t.Errorf("guest was asked to %q", how)
	}
	close(g.booted)
	wg.Wait()

	again, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.WaitBooted(again); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitBooted with a ctx that has ended: %v", err)
	}
}

func TestConnectionLost(t *testing.T) {
	c, g := connect(t, nil)
	g.closeConns()
	<-c.Done()
	if _, err := c.Status(limited(t)); !errors.Is(err, guest.ErrLost) {
		t.Errorf("status over a lost connection: %v", err)
	}
	if _, err := c.Exec(limited(t), argv("true"), guest.Streams{}); !errors.Is(err, guest.ErrLost) {
		t.Errorf("exec over a lost connection: %v", err)
	}
}

func TestOpenDirect(t *testing.T) {
	c, _ := connect(t, nil)
	conn, err := c.OpenDirect(limited(t), "127.0.0.1", 80)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	conn.(interface{ CloseWrite() error }).CloseWrite()
	b, err := io.ReadAll(conn)
	if err != nil || string(b) != "hello" {
		t.Errorf("got %q, %v", b, err)
	}
}
