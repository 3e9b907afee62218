package vmcmd

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"syscall"

	"banger"
	"banger/internal/api"

	"github.com/spf13/cobra"
)

// newSSHProxy returns the ProxyCommand of the blocks that ssh-config writes. It
// is nothing to type: ssh(1) starts it.
func newSSHProxy(e Env) *cobra.Command {
	return &cobra.Command{
		Use:    "ssh-proxy VM",
		Short:  "Join stdin and stdout to a VM's SSH port",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runSSHProxy(cmd.Context(), e, args[0], c)
		},
	}
}

func runSSHProxy(ctx context.Context, e Env, vm string, c interface {
	accessor
	shower
	waiter
}) error {
	if err := e.awaitReady(ctx, c, vm); err != nil {
		return err
	}
	a, err := c.AccessVM(ctx, api.VMRequest{VM: vm})
	if err != nil {
		return err
	}
	e.IO.Progress().Close()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(a.Host, strconv.Itoa(a.Port)))
	if err != nil {
		return banger.Errorf(banger.Lost, "connect to %s: %w", a.VM.Name, err).WithRemedy("banger vm show %s", a.VM.Name)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	go func() { // ends with the process, if stdin does not before
		_, _ = io.Copy(conn, e.IO.In) // the other direction tells of a connection that broke
		if half, ok := conn.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
	}()
	_, err = io.Copy(e.IO.Out, conn)
	// ssh(1) goes away as it likes.
	if ctx.Err() != nil || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}
