package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/crypto/ssh"
)

// clientConfig says how a user of the machine's logs in.
func (i image) clientConfig(user string) (*ssh.ClientConfig, error) {
	text, err := os.ReadFile(i.file("key"))
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", i.file("key"), err)
	}
	if text, err = os.ReadFile(i.file("known")); err != nil {
		return nil, err
	}
	known, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", i.file("known"), err)
	}
	return &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(known),
		HostKeyAlgorithms: []string{known.Type()}}, nil
}

// attemptLimit bounds one attempt to log in: QEMU's port accepts, and says nothing, while
// there is nobody behind it.
const attemptLimit = time.Minute

// dial is ssh.Dial, except that it ends with ctx.
func dial(ctx context.Context, addr string, config *ssh.ClientConfig) (*ssh.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c, channels, requests, err := ssh.NewClientConn(conn, addr, config)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

// A streams is what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// command runs a line of sh(1) and returns its exit code; 128 and more if a signal ended
// it. An error is one of the way there, or the machine's end.
func (m *machine) command(ctx context.Context, c *ssh.Client, line string, s streams) (int, error) {
	stop := context.AfterFunc(ctx, func() { c.Close() }) // what waits for an answer has no deadline of its own
	defer stop()
	session, err := c.NewSession()
	if err != nil {
		return 0, m.lost(err)
	}
	defer session.Close()
	session.Stdin, session.Stdout, session.Stderr = s.in, s.out, s.err
	if err := session.Start(line); err != nil {
		return 0, m.lost(err)
	}
	done := make(chan error, 1)
	go func() { done <- session.Wait() }()
	select {
	case err = <-done:
	case <-m.dead:
		return 0, m.died()
	case <-m.ended:
		return 0, m.lost(m.err)
	case <-ctx.Done():
		return 0, fmt.Errorf("%s: %w", line, context.Cause(ctx))
	}
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return exit.ExitStatus(), nil
	}
	return 0, m.lost(err)
}

// lost explains why a machine does not answer.
func (m *machine) lost(err error) error {
	if m.svm.Load() {
		return errInterrupted
	}
	return fmt.Errorf("the lab's machine does not answer: %w", err)
}
