package firecracker_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger/internal/host"
	"banger/internal/vmm"
	"banger/internal/vmm/firecracker"
	"banger/internal/vmm/vmmtest"
)

func dialVSock(t *testing.T, p vmm.Process, port uint32) (net.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	c, err := p.(vmm.VSock).DialVSock(ctx, port)
	if (c == nil) == (err == nil) {
		t.Fatalf("%v, %v", c, err)
	}
	return c, err
}

func TestDialVSock(t *testing.T) {
	p := start(t, "")
	for _, q := range []vmm.Process{p, adopt(t, p.Handle())} {
		c, err := dialVSock(t, q, 5122)
		if err != nil {
			t.Fatal(err)
		}
		// It has no deadline of ours any more, and nothing was read that is the guest's.
		r := bufio.NewReader(c)
		if got, err := r.ReadString('\n'); err != nil || got != "hello\n" {
			t.Errorf("the guest's first line: %q, %v", got, err)
		}
		if _, err := c.Write([]byte("back\n")); err != nil {
			t.Error(err)
		}
		if got, err := r.ReadString('\n'); err != nil || got != "back\n" {
			t.Errorf("the second: %q, %v", got, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := dialVSock(t, p, 22); !errors.Is(err, io.EOF) {
		t.Errorf("a port where nobody listens: %v", err)
	}
	asked := read(t, filepath.Join(filepath.Dir(p.Handle().Socket), "requests"))
	if !strings.Contains(asked, `vsock "CONNECT 22\n"`) {
		t.Errorf("asked was %s", asked)
	}
	vmmtest.Kill(t, p)
	if _, err := dialVSock(t, p, 5122); !errors.Is(err, vmm.ErrNoVSock) {
		t.Errorf("after its end: %v", err)
	}
}

// A guest that owns its VMM says what it likes.
func TestVSockAnswers(t *testing.T) {
	for name, said := range map[string]string{
		"nothing":          "",
		"no number":        "OK \n",
		"words":            "OK 12x\n",
		"sign":             "OK -1\n",
		"no OK":            "NO 1024\n",
		"empty line":       "\n",
		"return":           "OK 1024\r\n",
		"too long":         "OK 00000000000000000000000001024\n",
		"no end of a line": "OK " + strings.Repeat("1", 4<<10),
		"escapes":          "\x1b[2J\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, "greet:"+said)
			_, err := dialVSock(t, p, 5122)
			if err == nil || strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 200 {
				t.Errorf("%q: %v", said, err)
			}
			vmmtest.Kill(t, p)
		})
	}
}

// Nobody answers before the guest has a driver: that ends with who waits.
func TestVSockSilent(t *testing.T) {
	for _, what := range []string{"numb", "greet:OK 10"} {
		p := start(t, what)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := p.(vmm.VSock).DialVSock(ctx, 5122)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", what, err)
		}
		vmmtest.Kill(t, p)
	}
}

// A socket that leads to another VM's, as one that a guest has taken over can
// arrange, is not used.
func TestVSockOfAnother(t *testing.T) {
	victim, taken := start(t, ""), start(t, "")
	socket := filepath.Join(filepath.Dir(taken.Handle().Socket), "vsock")
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(filepath.Dir(victim.Handle().Socket), "vsock"), socket); err != nil {
		t.Fatal(err)
	}
	if _, err := dialVSock(t, taken, 5122); err == nil || !strings.Contains(err.Error(), "not the VMM") {
		t.Errorf("got %v", err)
	}
	vmmtest.Kill(t, taken)
	vmmtest.Kill(t, victim)
}

// A VMM that was killed leaves its socket, which the next run must not fail at.
func TestVSockStale(t *testing.T) {
	m := standInMachine(t, "")
	for range 2 {
		p, err := standInBackend(t).Start(t.Context(), m, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := dialVSock(t, p, 5122)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if err := host.Signal(host.ProcID{PID: p.Handle().PID, Started: p.Handle().Started}, 9); err != nil {
			t.Fatal(err)
		}
		vmmtest.Wait(t, p)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVSockByVersion(t *testing.T) {
	for v, want := range map[string]bool{"1.12.1": true, "1.15.1": true, "1.16.0": false, "1.16.1": false, "1.16.2": true, "1.17.0": true, "2.16.0": true} {
		if got, err := firecracker.HasVSock("Firecracker v" + v); got != want || err != nil {
			t.Errorf("%s: %v, %v", v, got, err)
		}
	}
}
