package server_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger"
	"banger/internal/privileged"
	"banger/internal/privileged/client"
	"banger/internal/privileged/server"
)

// It ends by itself when nobody is there, and not before.
func TestIdle(t *testing.T) {
	defer goleak.VerifyNone(t)
	l, err := net.ListenUnix(privileged.Network, &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: privileged.Network})
	if err != nil {
		t.Fatal(err)
	}
	path := l.Addr().String()
	conns := make(chan *net.UnixConn, 1)
	go func() { // before the server's time begins to run, one is in the queue
		c, err := net.Dial(privileged.Network, path)
		if err != nil {
			t.Error(err)
			close(conns)
			return
		}
		conns <- c.(*net.UnixConn)
	}()
	c := <-conns
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(t.Context(), l, uint32(os.Getuid()), time.Second, time.Hour) }()
	ask := func() {
		for range 3 {
			if err := privileged.Send(c, privileged.Request{Protocol: privileged.Protocol, Op: privileged.KVMAllow + "?"}); err != nil {
				t.Fatal(err)
			}
			b, _, err := privileged.Receive(c)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := client.ParseResponse(b); err != nil || r.Error == nil || r.Error.Code != banger.Invalid {
				t.Fatalf("%s %v", b, err)
			}
		}
	}
	ask()
	select { // longer than it waits with nobody
	case err := <-ended:
		t.Fatalf("it ended while somebody was there: %v", err)
	case <-time.After(1500 * time.Millisecond):
	}
	ask()
	c.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it does not end")
	}
}

// So many talk to it at a time, and no more; who goes makes room for another.
func TestManyConnections(t *testing.T) {
	defer goleak.VerifyNone(t)
	l, err := net.ListenUnix(privileged.Network, &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: privileged.Network})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l, uint32(os.Getuid()), time.Hour, time.Hour) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	talk := func() (c net.Conn, answered bool) {
		c, err := net.Dial(privileged.Network, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = privileged.Send(c.(*net.UnixConn), privileged.Request{}) // where it is not taken nothing is answered
		_, _, err = privileged.Receive(c.(*net.UnixConn))
		return c, err == nil
	}
	var first net.Conn
	for n := range server.MaxConns {
		c, answered := talk()
		defer c.Close()
		if !answered {
			t.Fatalf("connection %d is not served", n)
		}
		first = c
	}
	c, answered := talk()
	if c.Close(); answered {
		t.Error("one more is served")
	}
	first.Close()
	for deadline := time.Now().Add(20 * time.Second); ; { // until it has seen that end
		c, answered := talk()
		if c.Close(); answered {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("one has gone, and there is no room")
		}
	}
}

// Who holds nothing and asks nothing is let go of.
func TestMute(t *testing.T) {
	defer goleak.VerifyNone(t)
	l, err := net.ListenUnix(privileged.Network, &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: privileged.Network})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l, uint32(os.Getuid()), time.Hour, 100*time.Millisecond) }()
	c, err := net.Dial(privileged.Network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, _, err := privileged.Receive(c.(*net.UnixConn)); !errors.Is(err, io.EOF) {
		t.Errorf("%v, and not the end", err)
	}
	c.Close()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// The log of a machine without a journal stays small, and is root's alone.
func TestLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for range 30 {
		server.LogTo(path, strings.Repeat("x", 100_000)+"\n")
	}
	var total int64
	for _, p := range []string{path, path + ".1"} {
		st, err := os.Stat(p)
		if err != nil || st.Mode() != 0o600 {
			t.Fatal(p, st.Mode(), err)
		}
		total += st.Size()
	}
	b, err := os.ReadFile(path)
	if err != nil || total > 3<<20 || strings.Count(string(b), "\n") != strings.Count(string(b), "level=INFO") {
		t.Errorf("%d bytes: %v", total, err)
	}
	os.Remove(path)
	if err := os.Symlink(path+".2", path); err != nil {
		t.Fatal(err)
	}
	server.LogTo(path, "through a link")
	if _, err := os.Lstat(path + ".2"); err == nil {
		t.Error("a link was followed")
	}
}
