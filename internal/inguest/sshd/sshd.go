// Package sshd is the SSH server of the guest program: public keys only, the
// login name picks an entry of /etc/passwd, and next to what ssh(1), scp, sftp
// and rsync ask for it answers banger's own requests. It knows nothing of the
// machine around it but what Machine says.
package sshd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"banger/internal/guestapi"
)

// Bounds on what clients may take. They are generous: whoever has the key is
// root anyway; they keep a mistake from ending the server.
const (
	maxConns       = 512
	maxChannels    = 256             // on one connection
	handshakeLimit = 2 * time.Minute // emulated guests are slow
)

// A Machine is what banger's own requests are about.
type Machine interface {
	// Status says how the machine is, at once.
	Status() guestapi.Status
	// WaitBooted returns once the image's init has come up, or failed to, or ctx ends.
	WaitBooted(ctx context.Context) guestapi.Status
	// Shutdown begins to end the machine and returns; how is "poweroff" or "reboot".
	Shutdown(how string) error
}

// A Config is what a Server is made of.
type Config struct {
	HostKey        string   // PEM, OpenSSH format
	AuthorizedKeys []string // authorized_keys format, one each
	Machine        Machine
	Root           string   // where etc/passwd and terminfo are; "" is /
	SFTP           []string // argv of a program that serves sftp on its standard streams
	Starter        Starter
	Log            *slog.Logger
}

// A Starter calls start, which makes a process, in the circumstances that the
// process is to inherit.
type Starter func(start func() error) error

// A Server serves SSH.
type Server struct {
	cfg    Config
	ssh    *ssh.ServerConfig
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // connections
	slots  chan struct{}
}

// New checks the keys.
func New(cfg Config) (*Server, error) {
	signer, err := ssh.ParsePrivateKey([]byte(cfg.HostKey))
	if err != nil {
		return nil, fmt.Errorf("read host key: %w", err)
	}
	allowed := map[string]bool{}
	for _, line := range cfg.AuthorizedKeys {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, fmt.Errorf("read authorized key: %w", err)
		}
		allowed[string(key.Marshal())] = true
	}
	if cfg.Starter == nil {
		cfg.Starter = func(start func() error) error { return start() }
	}
	s := &Server{cfg: cfg, slots: make(chan struct{}, maxConns)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.ssh = &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-banger",
		PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if !allowed[string(key.Marshal())] {
				return nil, errors.New("unknown key")
			}
			if _, err := s.users().login(c.User()); err != nil {
				return nil, err
			}
			return nil, nil
		},
	}
	s.ssh.AddHostKey(signer)
	return s, nil
}

// Serve accepts connections until l is closed or fails.
func (s *Server) Serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			if temporary(err) { // no descriptors, no memory: others are still served
				time.Sleep(50 * time.Millisecond)
				continue
			}
			return fmt.Errorf("accept: %w", err)
		}
		select {
		case s.slots <- struct{}{}:
			s.wg.Go(func() {
				defer func() { <-s.slots }()
				s.serveConn(c)
			})
		default:
			c.Close()
		}
	}
}

// Close ends all connections, hangs up on their commands and waits for both
// sides' goroutines. Commands that ignore the hang-up live on.
func (s *Server) Close() {
	s.cancel()
	s.wg.Wait()
}

func temporary(err error) bool {
	for _, e := range []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func statusJSON(st guestapi.Status) []byte {
	b, err := json.Marshal(st)
	if err != nil { // a struct of numbers and strings
		return []byte("{}")
	}
	return b
}
