package sshd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A command is what a session runs.
type command struct {
	account account
	argv    []string
	file    string   // "": argv[0], looked up in the PATH of env
	env     []string // on top of the login environment
	dir     string   // "": the home directory, or / when there is none
	failed  error    // why it cannot run, found before
}

// errNotFound is a command that is nowhere: 127, as shells say it.
var errNotFound = errors.New("command not found")

func exitCodeOf(err error) int {
	if errors.Is(err, errNotFound) {
		return 127
	}
	return 126
}

// environment puts the command's whole environment together.
func (s *session) environment(cmd command, tty string) []string {
	u := s.conn.srv.users()
	env := u.loginEnv(cmd.account)
	near, far := s.conn.ssh.LocalAddr().String(), s.conn.ssh.RemoteAddr().String()
	env = append(env, "SSH_CONNECTION="+sshAddr(far)+" "+sshAddr(near))
	if tty != "" {
		env = append(env, "SSH_TTY="+tty, "TERM="+u.term(s.pty.term, cmd.account))
	}
	if s.agent != nil {
		env = append(env, "SSH_AUTH_SOCK="+s.agent.path())
	}
	return append(env, cmd.env...)
}

// sshAddr turns HOST:PORT into "HOST PORT".
func sshAddr(addr string) string {
	i := strings.LastIndexByte(addr, ':')
	if i < 0 {
		return addr + " 0"
	}
	return strings.Trim(addr[:i], "[]") + " " + addr[i+1:]
}

// find returns the file to execute.
func find(cmd command, env []string, dir string) (string, error) {
	file := cmd.file
	if file == "" {
		file = cmd.argv[0]
	}
	if strings.Contains(file, "/") {
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		if err := executable(file); err != nil {
			return "", fmt.Errorf("%s: %w", cmd.argv[0], err)
		}
		return file, nil
	}
	denied := error(nil)
	for _, d := range filepath.SplitList(lookup(env, "PATH")) {
		if !filepath.IsAbs(d) { // "." and the like: relative to the command's directory
			d = filepath.Join(dir, d)
		}
		err := executable(filepath.Join(d, file))
		if err == nil {
			return filepath.Join(d, file), nil
		}
		if errors.Is(err, fs.ErrPermission) {
			denied = err
		}
	}
	if denied != nil {
		return "", fmt.Errorf("%s: %w", file, denied)
	}
	return "", fmt.Errorf("%s: %w", file, errNotFound)
}

func executable(file string) error {
	st, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return errNotFound
	case err != nil:
		return errors.Unwrap(err)
	case st.IsDir():
		return unix.EISDIR
	case st.Mode()&0o111 == 0:
		return fs.ErrPermission
	}
	return nil
}

// workDir is where the command starts. A home directory that is not there is
// no reason to refuse; a directory that was asked for is.
func workDir(cmd command) (string, error) {
	home := cmd.account.Home
	if st, err := os.Stat(home); err != nil || !st.IsDir() {
		home = "/"
	}
	if cmd.dir == "" {
		return home, nil
	}
	dir := cmd.dir
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(home, dir)
	}
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		err = unix.ENOTDIR
	}
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return "", fmt.Errorf("cannot enter %s: %w", cmd.dir, err)
	}
	return dir, nil
}

// credential makes the command run as its account; nil when the server is not
// root itself (tests) and so cannot change.
func (s *session) credential(a account) *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: a.UID, Gid: a.GID, Groups: s.conn.srv.users().groups(a)}
}
