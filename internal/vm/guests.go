package vm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"golang.org/x/crypto/ssh"

	"banger"
	"banger/internal/guest"
	"banger/internal/guestapi"
	"banger/internal/vmm"
)

// SSH implements Guests: one kept-open SSH connection per VM.
type SSH struct {
	signer ssh.Signer
	log    *slog.Logger
	pool   guest.Pool
}

// NewSSH returns Guests that log in with signer.
func NewSSH(signer ssh.Signer, log *slog.Logger) *SSH { return &SSH{signer: signer, log: log} }

// Reach implements Guests. A connection that was lost is made again; a guest
// that does not answer is waited for.
func (s *SSH) Reach(ctx context.Context, t Target, gone <-chan struct{}) (Guest, error) {
	host, err := ssh.ParsePrivateKey([]byte(t.Key))
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	cfg := guest.Config{
		HostKey: host.PublicKey(), Signer: s.signer, User: loginUser, Log: s.log.With("vm", t.VM), Emulated: t.Emulated,
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", t.Addr)
		},
	}
	if t.VSock != nil {
		cfg.VSock = func(ctx context.Context) (net.Conn, error) {
			conn, err := t.VSock.DialVSock(ctx, guestapi.Port)
			if errors.Is(err, vmm.ErrNoVSock) {
				err = fmt.Errorf("%w (%w)", guest.ErrNoVSock, err)
			}
			return conn, err
		}
	}
	c, err := s.pool.Get(ctx, guest.Key{VM: t.VM, Launch: t.Launch}, func(ctx context.Context) (*guest.Conn, error) {
		c, _, err := guest.WaitReady(ctx, cfg, gone)
		return c, err
	})
	if err != nil {
		return nil, remedied(err, t.VM)
	}
	return c, nil
}

// remedied says what to do about a guest that answers and cannot be used.
func remedied(err error, id banger.VMID) error {
	switch {
	case errors.Is(err, guest.ErrHostKey):
		return banger.Errorf(banger.HostUnready, "%w", err).
			WithRemedy("something else listens on the VM's port: banger vm restart %s", id)
	case errors.Is(err, guest.ErrAuth), errors.Is(err, guest.ErrVersion):
		return banger.Errorf(banger.WrongState, "%w", err).
			WithRemedy("its guest program is another installation's or build's: banger vm restart %s", id)
	}
	return err
}

// Drop implements Guests.
func (s *SSH) Drop(id banger.VMID, launch string) { s.pool.Drop(guest.Key{VM: id, Launch: launch}) }

// Close implements Guests.
func (s *SSH) Close() { s.pool.CloseAll() }
