package vm

import (
	"context"
	"log/slog"
	"net"
	"sync"

	"golang.org/x/crypto/ssh"

	"banger"
	"banger/internal/guest"
	"banger/internal/keylock"
)

// SSH implements Guests: one kept-open SSH connection per VM.
type SSH struct {
	signer ssh.Signer
	log    *slog.Logger
	pool   guest.Pool
	first  keylock.Map[banger.VMID] // held while a guest is waited for

	mu   sync.Mutex
	seen map[banger.VMID]guest.Key // guests that have answered, by launch
}

// NewSSH returns Guests that log in with signer.
func NewSSH(signer ssh.Signer, log *slog.Logger) *SSH {
	return &SSH{signer: signer, log: log, seen: map[banger.VMID]guest.Key{}}
}

// Reach implements Guests. A connection that was lost is made again; a guest
// that does not answer is waited for.
func (s *SSH) Reach(ctx context.Context, t Target, gone <-chan struct{}) (Guest, error) {
	host, err := ssh.ParsePrivateKey([]byte(t.Key))
	if err != nil {
		return nil, err
	}
	key := guest.Key{VM: t.VM, Launch: t.Launch}
	cfg := guest.Config{
		HostKey: host.PublicKey(), Signer: s.signer, User: loginUser, Log: s.log.With("vm", t.VM),
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", t.Addr)
		},
	}
	if s.known(key) {
		if c, err := s.pool.Get(ctx, key, cfg); err == nil {
			return c, nil
		}
	}
	unlock, err := s.first.Lock(ctx, t.VM)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if s.known(key) { // somebody else waited meanwhile
		if c, err := s.pool.Get(ctx, key, cfg); err == nil {
			return c, nil
		}
	}
	c, _, err := guest.WaitReady(ctx, cfg, gone)
	if err != nil {
		return nil, err
	}
	s.pool.Put(key, c)
	s.mu.Lock()
	s.seen[t.VM] = key
	s.mu.Unlock()
	return c, nil
}

func (s *SSH) known(key guest.Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[key.VM] == key
}

// Drop implements Guests.
func (s *SSH) Drop(id banger.VMID) {
	s.mu.Lock()
	key, ok := s.seen[id]
	delete(s.seen, id)
	s.mu.Unlock()
	if ok {
		s.pool.Drop(key)
	}
}

// Close implements Guests.
func (s *SSH) Close() { s.pool.CloseAll() }
