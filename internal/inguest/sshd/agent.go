package sshd

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// An agentSocket is where a session's commands find the client's ssh-agent.
type agentSocket struct {
	dir      string
	listener net.Listener
}

// forwardAgent opens a socket that only the account can reach and whose
// connections lead to the client's agent (ssh -A).
func (s *session) forwardAgent() error {
	a := s.conn.account
	dir, err := os.MkdirTemp("", "ssh-")
	if err != nil {
		return fmt.Errorf("make agent's directory: %w", err)
	}
	name := filepath.Join(dir, "agent")
	l, err := net.Listen("unix", name)
	if err != nil {
		os.RemoveAll(dir)
		return fmt.Errorf("listen for agent: %w", err)
	}
	s.agent = &agentSocket{dir: dir, listener: l}
	if os.Geteuid() == 0 { // the socket first: the directory is the door
		for _, f := range []string{name, dir} {
			if err := os.Chown(f, int(a.UID), int(a.GID)); err != nil {
				s.agent.close()
				s.agent = nil
				return fmt.Errorf("give agent's socket away: %w", err)
			}
		}
	}
	s.conn.wg.Go(func() { s.conn.acceptAgent(l) })
	return nil
}

func (a *agentSocket) path() string { return filepath.Join(a.dir, "agent") }

// close ends the socket; connections under way go on until their channel ends.
func (a *agentSocket) close() {
	a.listener.Close()
	os.RemoveAll(a.dir)
}

func (c *conn) acceptAgent(l net.Listener) {
	for {
		near, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case c.channels <- struct{}{}:
			c.wg.Go(func() {
				defer func() { <-c.channels }()
				ch, reqs, err := c.ssh.OpenChannel("auth-agent@openssh.com", nil)
				if err != nil {
					near.Close()
					return
				}
				c.join(ch, reqs, near)
			})
		default:
			near.Close()
		}
	}
}
