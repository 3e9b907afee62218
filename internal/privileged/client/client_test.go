package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger"
	"banger/internal/network"
	"banger/internal/privileged"
	"banger/internal/privileged/client"
	"banger/test/netns"
)

// listen is where root's banger-root would, in a /run of the test's own; answer
// gets each connection. The real one is tested in privileged/server.
func listen(t *testing.T, answer func(*net.UnixConn)) {
	t.Helper()
	if err := os.MkdirAll(privileged.SocketDir(0), 0o711); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen(privileged.Network, privileged.SocketPath(0))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer c.Close(); answer(c.(*net.UnixConn)) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
}

func dial(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func gone(t *testing.T, c *client.Client) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(20 * time.Second):
		t.Error("the connection is not known to be gone")
	}
	if err := c.Exit(t.Context()); banger.CodeOf(err) != banger.NeedsRoot {
		t.Errorf("asked over a connection that is gone: %v", err)
	}
}

// Each of many gets its own answer.
func TestMany(t *testing.T) {
	netns.Enter(t)
	listen(t, func(c *net.UnixConn) {
		for {
			b, _, err := privileged.Receive(c)
			if err != nil {
				return
			}
			a := privileged.Response{Protocol: privileged.Protocol}
			if r, err := privileged.ParseRequest(b, 0); err != nil || r.Op != privileged.KVMAllow {
				a.Error = banger.Errorf(banger.Busy, "%s %v", r.Op, err).WithRemedy("wait")
			}
			if privileged.Send(c, a) != nil {
				return
			}
		}
	})
	c := dial(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				if err := c.AllowKVM(t.Context()); err != nil {
					t.Error(err)
				}
				err := c.RevokeKVM(t.Context())
				if e := banger.AsError(err); e == nil || e.Code != banger.Busy || e.Message != "kvm.revoke <nil>" || e.Remedy != "wait" {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	// What cannot be right is not even sent.
	err := c.Router().Set(t.Context(), network.Config{Tag: "beef", Subnet: netip.MustParsePrefix("8.8.0.0/16")})
	if banger.CodeOf(err) != banger.Invalid {
		t.Error(err)
	}
	if err := c.AllowKVM(t.Context()); err != nil {
		t.Errorf("after it: %v", err)
	}
	c.Close()
	gone(t, c)
}

// The banger-root of the banger before this one is spoken to as that did, so that
// an upgrade asks for no password; what it cannot do is told with what to do.
func TestOlderRoot(t *testing.T) {
	netns.Enter(t)
	const old = privileged.Protocol - 1
	asked := make(chan int, 10)
	listen(t, func(c *net.UnixConn) {
		for {
			b, files, err := privileged.Receive(c)
			if err != nil {
				return
			}
			privileged.CloseAll(files)
			var r privileged.Request
			a := privileged.Response{Protocol: old}
			if err := json.Unmarshal(b, &r); err != nil || r.Protocol != old {
				a.Error = banger.Errorf(banger.Invalid, "protocol %d is not spoken here, %d is", r.Protocol, old)
			}
			asked <- r.Protocol
			if privileged.Send(c, a) != nil {
				return
			}
		}
	})
	c := dial(t)
	err := c.DetachDisk(t.Context(), "beef", "0a1b2c3d")
	if e := banger.AsError(err); e == nil || e.Code != banger.HostUnready || !strings.Contains(e.Remedy, "sudo banger-root") {
		t.Errorf("%v", err)
	}
	for range 2 {
		if err := c.AllowKVM(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for n, want := range []int{old + 1, old, old} { // each was asked before it was answered
		if got := <-asked; got != want {
			t.Errorf("request %d was of protocol %d, not %d", n, got, want)
		}
	}
}

// Who no longer waits gets its context's error, and the connection ends, as
// nobody knew whose the answer is.
func TestGivenUp(t *testing.T) {
	netns.Enter(t)
	asked := make(chan struct{})
	listen(t, func(c *net.UnixConn) {
		_, _, _ = privileged.Receive(c)
		close(asked)
		_, _, _ = privileged.Receive(c) // until the client ends it
	})
	c := dial(t)
	ctx, stop := context.WithCancel(t.Context())
	go func() { <-asked; stop() }()
	if err := c.Router().Probe(ctx); !errors.Is(err, context.Canceled) || banger.CodeOf(err) != banger.Canceled {
		t.Error(err)
	}
	gone(t, c)
}

// What nobody has asked for, and what is no answer, ends the connection.
func TestUnasked(t *testing.T) {
	netns.Enter(t)
	for _, say := range []any{privileged.Response{Protocol: 2}, "x", []int{1}} {
		os.Remove(privileged.SocketPath(0))
		listen(t, func(c *net.UnixConn) {
			_ = privileged.Send(c, say)
			_, _, _ = privileged.Receive(c)
		})
		gone(t, dial(t))
	}
}

func TestAbsent(t *testing.T) {
	defer goleak.VerifyNone(t)
	netns.Enter(t)
	for _, prepare := range []func(){
		func() {},
		func() { _ = os.MkdirAll(privileged.SocketDir(0), 0o711) },
		func() { // a socket that nobody listens on any more
			l, err := net.ListenUnix(privileged.Network, &net.UnixAddr{Name: privileged.SocketPath(0), Net: privileged.Network})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			l.Close()
		},
	} {
		prepare()
		_, err := client.Dial(t.Context(), 0)
		if e := banger.AsError(err); !errors.Is(err, client.ErrAbsent) || e.Code != banger.NeedsRoot || e.Remedy == "" {
			t.Errorf("%v", err)
		}
	}
}

func FuzzParseResponse(f *testing.F) {
	f.Add([]byte(`{"protocol":1,"error":{"code":"invalid","message":"no","remedy":"x"}}`))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = client.ParseResponse(b) })
}

// A banger-root of the banger before is asked again as it wants to be asked, once,
// and says that it makes no NAT.
func TestEarlierRoot(t *testing.T) {
	netns.Enter(t)
	const refuses = `{"protocol":1,"error":{"code":"invalid","message":"protocol 2 is not spoken here, 1 is"}}`
	var mu sync.Mutex
	var heard []string
	listen(t, func(c *net.UnixConn) {
		for {
			b, _, err := privileged.Receive(c)
			if err != nil {
				return
			}
			mu.Lock()
			heard = append(heard, string(b))
			mu.Unlock()
			answer := `{"protocol":1}`
			if !strings.HasPrefix(string(b), `{"protocol":1,`) {
				answer = refuses
			}
			if _, err := c.Write([]byte(answer)); err != nil {
				return
			}
		}
	})
	c := dial(t)
	if err := c.NAT(); err != nil {
		t.Errorf("before it said anything: %v", err)
	}
	cfg := network.Config{Tag: "beef", Subnet: netip.MustParsePrefix("10.77.16.0/20"), Taps: []network.Tap{{VM: "0a1b2c3d", Addr: netip.MustParseAddr("10.77.16.3"), NAT: true}}}
	for range 2 {
		if err := c.Router().Set(t.Context(), cfg); err != nil {
			t.Error(err)
		}
	}
	if e := banger.AsError(c.NAT()); e == nil || e.Code != banger.HostUnready || e.Remedy == "" {
		t.Errorf("NAT: %v", e)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(heard) != 3 || !strings.Contains(heard[0], `"nat":true`) || strings.Contains(heard[1], "nat") || heard[1] != heard[2] {
		t.Errorf("it heard %q", heard)
	}
}
