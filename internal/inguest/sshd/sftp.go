package sshd

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// beginSubsystem serves sftp. For root, whom the server is, it does so itself:
// starting another process is slow in an emulated guest. For everybody else it
// is a process of theirs.
func (s *session) beginSubsystem(payload []byte) (bool, func()) {
	var m struct{ Name string }
	if err := ssh.Unmarshal(payload, &m); err != nil || m.Name != "sftp" {
		return false, nil
	}
	a := s.conn.account
	if a.UID != uint32(os.Geteuid()) {
		if len(s.conn.srv.cfg.SFTP) == 0 {
			return false, nil
		}
		s.began, s.pty = true, nil
		return true, s.run(command{account: a, file: s.conn.srv.cfg.SFTP[0], argv: s.conn.srv.cfg.SFTP})
	}
	s.began = true
	return true, func() {
		code := 0
		if err := ServeSFTP(unclosed{s.ch}, a.Home); err != nil {
			code = 1
		}
		s.exit(code)
		s.ch.Close()
	}
}

// unclosed keeps the channel open when the sftp server closes what it served:
// the exit status is still to come, and scp wants one.
type unclosed struct{ io.ReadWriter }

func (unclosed) Close() error { return nil }

// ServeSFTP serves one client until it leaves; relative paths begin in home, or
// in / when that is not there.
func ServeSFTP(rw io.ReadWriteCloser, home string) error {
	if st, err := os.Stat(home); err != nil || !st.IsDir() {
		home = "/"
	}
	srv, err := sftp.NewServer(rw, sftp.WithServerWorkingDirectory(home))
	if err != nil {
		return fmt.Errorf("serve sftp: %w", err)
	}
	defer srv.Close()
	if err := srv.Serve(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("serve sftp: %w", err)
	}
	return nil
}
