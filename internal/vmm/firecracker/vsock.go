package firecracker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"time"

	sdk "github.com/firecracker-microvm/firecracker-go-sdk"
	"golang.org/x/sys/unix"

	"banger/internal/vmm"
)

const (
	// vsockName is the socket by which the host reaches the guest's vsock ports. What a
	// guest sends to a port N of the host would go to vsock_N: nobody listens there.
	vsockName = "vsock"
	// guestCID is the guest's address on its vsock. Each has a device of its own: all
	// may have the same.
	guestCID = 3
	// maxGreeting bounds the line by which a connection begins, "OK 4294967295\n".
	maxGreeting = 16
)

var greeting = regexp.MustCompile(`^OK [0-9]+\n$`)

var _ vmm.VSock = (*proc)(nil)

// vsock reports whether connections to guests over vsock work with a version: they
// hang for ever in 1.16.0 and 1.16.1, once the VM was paused
// (github.com/firecracker-microvm/firecracker/issues/6074).
func (r release) vsock() bool { return r.major != 1 || r.minor != 16 || r.patch >= 2 }

// vsockOf is the device of a VM whose API is at socket.
func vsockOf(socket string) []sdk.VsockDevice {
	return []sdk.VsockDevice{{ID: vsockName, Path: vsockPath(socket), CID: guestCID}}
}

func vsockPath(socket string) string { return filepath.Join(filepath.Dir(socket), vsockName) }

// DialVSock implements vmm.VSock. Before the guest has a driver for its device it
// waits for that.
func (p *proc) DialVSock(ctx context.Context, port uint32) (net.Conn, error) {
	conn, err := dialPeer(ctx, vsockPath(p.Handle().Socket), p.Handle().PID)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, fmt.Errorf("%w: %w", vmm.ErrNoVSock, err)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the guest's vsock: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	err = greet(conn, port)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to vsock port %d of the guest: %w", port, becauseOf(ctx, err)), conn.Close())
	}
	return conn, nil
}

// greet asks for a port, and reads the answer to the byte: what follows is the
// guest's (docs/vsock.md of Firecracker). The VMM hangs up where nobody listens.
func greet(conn net.Conn, port uint32) error {
	if _, err := fmt.Fprintf(conn, "CONNECT %d\n", port); err != nil {
		return err
	}
	var line []byte
	for b := make([]byte, 1); len(line) < maxGreeting && b[0] != '\n'; {
		if _, err := conn.Read(b); err != nil {
			return err
		}
		line = append(line, b[0])
	}
	if !greeting.Match(line) {
		return fmt.Errorf("the VMM answers %q", line)
	}
	return nil
}
