package qemu

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"banger"
)

const tunDevice = "/dev/net/tun"

// tapFD is the descriptor under which QEMU is given its tap: the first after
// the standard ones.
const tapFD = 3

// openTap opens a tap that exists and that this user owns. The VMM gets the
// descriptor: a VMM with a uid of its own could open neither the device, where
// that is root's alone, nor another uid's tap.
func openTap(name string) (*os.File, error) {
	// Root would otherwise make an unknown tap, with no route and no rule.
	if _, err := net.InterfaceByName(name); err != nil {
		return nil, fmt.Errorf("find tap %s: %w", name, err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, fmt.Errorf("tap %q: %w", name, err)
	}
	f, err := os.OpenFile(tunDevice, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		e := banger.Errorf(banger.HostUnready, "open %s: %w", tunDevice, err)
		if errors.Is(err, os.ErrPermission) {
			return nil, e.WithRemedy("sudo chmod 0666 %s (as Debian ships it), or use --network user", tunDevice)
		}
		return nil, e.WithRemedy("sudo modprobe tun")
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(int(f.Fd()), unix.TUNSETIFF, req); err != nil {
		if errors.Is(err, unix.EBUSY) {
			err = fmt.Errorf("another process has it: %w", err)
		}
		return nil, errors.Join(fmt.Errorf("attach to tap %s: %w", name, err), f.Close())
	}
	return f, nil
}
