package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"

	"banger"
	"banger/internal/host"
	"banger/internal/vmm"
)

// consoleName is the socket of the guest's serial console, beside the control
// socket and no longer than that. QEMU writes what the guest says to the log
// whether or not somebody is connected, and loses no word of it when it cannot
// be sent; while nobody is, input is none and the guest waits for nobody.
const consoleName = "tty.sock"

func consoleSocket(control string) string {
	return filepath.Join(filepath.Dir(control), consoleName)
}

var _ vmm.Consoler = (*proc)(nil)

// Console implements vmm.Consoler. As with the control socket it is the process
// at the other end that counts, not the path.
func (p *proc) Console(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", consoleSocket(p.Handle().Socket))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, banger.Errorf(banger.WrongState, "its VMM was started by an older banger and has no console to attach to").
			WithRemedy("banger vm restart gives it one")
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the console: %w", err)
	}
	if err := host.IsPeer(conn, p.Handle().PID); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to the console: %w", err), conn.Close())
	}
	return conn, nil
}
