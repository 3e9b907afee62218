// Package sshexec replaces this process with ssh(1), told everything that it
// must know of one VM: no file of the user's is read or written, and the host
// key is verified, always.
package sshexec

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"banger"
	"banger/internal/cli/streams"
	"banger/internal/sshconfig"
)

// A Target is a VM as ssh(1) sees it.
type Target struct {
	Name      string // shown in ssh's messages
	ID        string // the host key is filed under it, whatever the VM is called
	Host      string
	Port      int
	User      string
	Identity  string // path of the private key
	PublicKey string // the VM's host key, authorized_keys format
	Agent     bool   // the caller's ssh-agent can be used from inside
}

// Args is the argv of an ssh(1) that reaches t and runs command there, or a
// shell if it is empty. As with ssh(1) everywhere, the words of command are
// joined with blanks and read by the user's shell in the VM.
//
// The key is handed over by KnownHostsCommand: no known_hosts file outlives
// the VM, and nothing has to be kept in step with it.
func Args(t Target, command []string) ([]string, error) {
	key := strings.Fields(t.PublicKey)
	if len(key) < 2 || !sshconfig.Plain(key[0]) || !sshconfig.Plain(key[1]) {
		return nil, banger.Errorf(banger.Internal, "the host key of %s is not a public key", t.Name)
	}
	if !sshconfig.Plain(t.ID) || !sshconfig.Plain(t.Host) || !sshconfig.Plain(t.User) || !sshconfig.Plain(t.Name) {
		return nil, banger.Errorf(banger.Internal, "the address of %s is malformed", t.Name)
	}
	alias := "banger-" + t.ID
	args := []string{"ssh", "-F", "none"}
	for _, o := range [][2]string{
		{"HostName", t.Host},
		{"Port", strconv.Itoa(t.Port)},
		{"User", t.User},
		{"IdentityFile", sshconfig.Quote(t.Identity)},
		{"IdentitiesOnly", "yes"},
		{"PreferredAuthentications", "publickey"},
		{"HostKeyAlias", alias},
		{"HostKeyAlgorithms", key[0]},
		{"StrictHostKeyChecking", "yes"},
		{"UserKnownHostsFile", "none"},
		{"GlobalKnownHostsFile", "none"},
		{"KnownHostsCommand", strings.Join([]string{"/bin/echo", alias, key[0], key[1]}, " ")},
		{"UpdateHostKeys", "no"},
		{"LogLevel", "ERROR"},
	} {
		args = append(args, "-o", o[0]+"="+o[1])
	}
	if t.Agent {
		args = append(args, "-o", "ForwardAgent=yes")
	}
	// Without the dashes ssh would look for options after the host as well.
	return append(append(args, "--", t.Name), command...), nil
}

// Exec replaces this process with the ssh(1) of Args; it returns only when
// that is not possible.
func Exec(s *streams.Streams, t Target, command []string) error {
	args, err := Args(t, command)
	if err != nil {
		return err
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return banger.Errorf(banger.HostUnready, "ssh is not installed: %w", errors.Unwrap(err)).
			WithRemedy("sudo apt install openssh-client; or use: banger exec %s", t.Name)
	}
	s.Progress().Close()
	if err := syscall.Exec(path, args, os.Environ()); err != nil {
		return banger.Errorf(banger.HostUnready, "start %s: %w", path, err)
	}
	return nil
}
