// Package guest is a VM seen from the host: one kept-open SSH connection to
// its guest program, verified by the host key that banger itself generated. It
// knows nothing of how the VM is run or how its port is reached: a dialer is
// handed in.
package guest

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"golang.org/x/crypto/ssh"
)

// What can be wrong with a connection, besides the network.
var (
	// ErrHostKey means that something else than this VM's guest program
	// answered. It is final: trying again does not help.
	ErrHostKey = errors.New("host key is not this VM's")
	// ErrAuth means that the guest program does not accept banger's key, as
	// when somebody changed it in the guest. It is final, too.
	ErrAuth = errors.New("guest program refused banger's key")
	// ErrLost means that the connection broke: the fate of what ran over it
	// is unknown.
	ErrLost = errors.New("connection to the guest lost")
	// ErrGone means that the VM ended while its guest program was awaited.
	ErrGone = errors.New("VM ended before it was ready")
	// ErrRefused means that the guest program does not do what it was asked,
	// such as too many sessions.
	ErrRefused = errors.New("guest program refused")
	// ErrNoVSock means that Config.VSock leads nowhere, and will not later.
	ErrNoVSock = errors.New("the VM has no vsock")
	// ErrVersion means that the guest program's number is none that this
	// daemon talks to: it was made by another build of banger.
	ErrVersion = errors.New("guest program speaks another version")
)

// A Config says how one VM's guest program is reached and recognised.
type Config struct {
	Dial    func(ctx context.Context) (net.Conn, error) // a new connection to the guest program's port
	VSock   func(ctx context.Context) (net.Conn, error) // the same past the guest's network, taken where it works; nil: there is no such way
	HostKey ssh.PublicKey                               // the only one that is accepted
	Signer  ssh.Signer                                  // the installation's key
	User    string                                      // "": root
	Log     *slog.Logger                                // nil: none

	// Emulated says that the guest's CPU is software: AES costs most there.
	Emulated bool
}

// ciphers are x/crypto's own in its own order, or the one that costs an emulated
// CPU least before them (64 MiB through one connection took a guest's QEMU 15.7 s
// of CPU with AES-GCM, 10.9 s with it).
func (c *Config) ciphers() []string {
	if !c.Emulated {
		return nil
	}
	return append([]string{ssh.CipherChaCha20Poly1305}, ssh.SupportedAlgorithms().Ciphers...)
}

func (c *Config) user() string {
	if c.User == "" {
		return "root"
	}
	return c.User
}

func (c *Config) log() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}
