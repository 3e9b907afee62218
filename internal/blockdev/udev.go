package blockdev

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// rule keeps udev from looking at what a guest or a user has written: from a
// link in /dev/disk named by it, from an offer to mount it. A mapper device is
// root's until it is made the user's, and not the group disk's.
const rule = `# Written by banger-root while it has loop devices: nobody looks into the disks of VMs.
SUBSYSTEM=="block", KERNEL=="loop4[0-9][0-9][0-9][0-9]", ENV{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}="1", ENV{UDISKS_IGNORE}="1", ENV{SYSTEMD_READY}="0", OPTIONS:="nowatch", SYMLINK:=""
SUBSYSTEM=="block", ATTR{dm/uuid}=="BANGER-*", ENV{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}="1", ENV{UDISKS_IGNORE}="1", ENV{SYSTEMD_READY}="0", OPTIONS:="nowatch", MODE:="0600", GROUP:="root"
`

func (h *Host) rule() string { return filepath.Join(h.rules, "01-banger.rules") }

// hide writes the rule, where there is a udev, and has it read.
func (h *Host) hide() error {
	if _, err := os.Stat(filepath.Dir(h.rules)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if b, err := os.ReadFile(h.rule()); err == nil && bytes.Equal(b, []byte(rule)) {
		return nil
	}
	if err := os.Mkdir(h.rules, 0o755); err == nil {
		if err := os.Chmod(h.rules, 0o755); err != nil { // whatever the umask
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	temp := h.rule() + ".tmp"
	if err := os.WriteFile(temp, []byte(rule), 0o644); err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(temp, 0o644), os.Rename(temp, h.rule())); err != nil {
		return err
	}
	return h.reload()
}

// unhide removes the rule.
func (h *Host) unhide() error {
	if err := os.Remove(h.rule()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// reload has udevd read its rules now: of itself it looks for new ones every 3
// seconds, with the next event. This is what udevadm control --reload sends
// (systemd, udev-ctrl.c); it is done when the other end closes.
func (h *Host) reload() error {
	c, err := net.Dial("unixpacket", h.udev)
	if err != nil {
		return nil // no udevd, nobody looks
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	const reload, end = 4, 0
	for _, kind := range []uint32{reload, end} {
		m := struct {
			Version     [16]byte
			Magic, Kind uint32
			Value       [256]byte
		}{Version: [16]byte{'u', 'd', 'e', 'v', '-', '2', '5', '2'}, Magic: 0xdead1dea, Kind: kind}
		if err := binary.Write(c, binary.NativeEndian, m); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, c); err != nil && !os.IsTimeout(err) {
		return err
	}
	return nil
}
