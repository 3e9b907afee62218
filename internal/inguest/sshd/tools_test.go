package sshd_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// files makes a small tree with contents worth comparing.
func (g *guest) files(t *testing.T) (dir string, big []byte) {
	t.Helper()
	big = make([]byte, 3<<20)
	rand.Read(big)
	g.write(t, "tree/big", string(big))
	g.write(t, "tree/sub/with space", "small")
	return filepath.Join(g.dir, "tree"), big
}

func (g *guest) checkHome(t *testing.T, dir string, big []byte) {
	t.Helper()
	for name, want := range map[string][]byte{"big": big, "sub/with space": []byte("small")} {
		got, err := os.ReadFile(filepath.Join(g.home, dir, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v, or other bytes", name, err)
		}
	}
}

func TestSCP(t *testing.T) {
	for name, mode := range map[string]string{"sftp protocol": "-s", "scp protocol": "-O"} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			dir, big := g.files(t)
			if mode == "-O" { // needs an scp in the guest, which here is the host's
				g.tool(t, "scp")
			}
			args := append(g.options(), mode, "-q", "-P", g.port, "-r", dir, "dev@127.0.0.1:copied")
			output(t, g.tool(t, "scp", args...))
			g.checkHome(t, "copied", big)
			args = append(g.options(), mode, "-q", "-P", g.port, "dev@127.0.0.1:copied/big", filepath.Join(g.dir, "back"))
			output(t, g.tool(t, "scp", args...))
			if back, err := os.ReadFile(filepath.Join(g.dir, "back")); err != nil || !bytes.Equal(back, big) {
				t.Errorf("the way back: %v, or other bytes", err)
			}
		})
	}
}

func TestSFTP(t *testing.T) {
	g := newGuest(t)
	dir, _ := g.files(t)
	args := append(g.options(), "-q", "-P", g.port, "-b", "-", "dev@127.0.0.1")
	cmd := g.tool(t, "sftp", args...)
	cmd.Stdin = strings.NewReader(fmt.Sprintf("pwd\nmkdir made\nput %q made/put\nrename made/put made/renamed\nls made\n", filepath.Join(dir, "sub/with space")))
	out := output(t, cmd)
	if !strings.Contains(out, "Remote working directory: "+g.home) || !strings.Contains(out, "made/renamed") {
		t.Errorf("sftp said %q", out)
	}
	if got, err := os.ReadFile(filepath.Join(g.home, "made/renamed")); err != nil || string(got) != "small" {
		t.Errorf("put: %q, %v", got, err)
	}
}

func TestRsync(t *testing.T) {
	g := newGuest(t)
	dir, big := g.files(t)
	shell := "ssh " + strings.Join(append(g.options(), "-p", g.port), " ")
	output(t, g.tool(t, "rsync", "-a", "-e", shell, dir+"/", "dev@127.0.0.1:synced/"))
	g.checkHome(t, "synced", big)
}

// echo answers every connection with what it says.
func echo(t *testing.T) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// TestForward: connections from here into the guest's network, and back; both
// ends say when they are done.
func TestForward(t *testing.T) {
	c := newGuest(t).client(t)
	port := echo(t)
	ask := func(t *testing.T, conn net.Conn) {
		t.Helper()
		defer conn.Close()
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
			t.Errorf("%q, %v", got, err)
		}
	}
	t.Run("local", func(t *testing.T) {
		conn, err := c.Dial("tcp", "localhost:"+port)
		if err != nil {
			t.Fatal(err)
		}
		ask(t, conn)
	})
	t.Run("local, nobody listens", func(t *testing.T) {
		if conn, err := c.Dial("tcp", "127.0.0.1:1"); err == nil {
			conn.Close()
			t.Error("connected")
		}
	})
	t.Run("remote", func(t *testing.T) {
		l, err := c.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			near, err := l.Accept()
			if err != nil {
				return
			}
			io.Copy(near, near)
			near.Close()
		}()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ask(t, conn)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
			conn.Close()
			t.Error("still listens after it was cancelled")
		}
	})
}
