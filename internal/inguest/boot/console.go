package boot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// consoleUnit gives a root shell on the serial console to who presses Return
// there, which is who may attach to it on the host; before that it says nothing,
// since the console is also the log. It has the name of systemd's own unit, whose
// device no image without udev ever shows, and takes its place.
const consoleUnit = `[Unit]
Description=Root shell on the serial console
After=rc-local.service
ConditionFileIsExecutable=/sbin/agetty

[Service]
ExecStart=-/sbin/agetty --autologin root --wait-cr --noissue --noclear --keep-baud 115200 ttyS0 vt220
Restart=always
RestartSec=0
UtmpIdentifier=ttyS0
TTYPath=/dev/ttyS0
TTYReset=yes
TTYVHangup=yes
KillMode=process
IgnoreSIGPIPE=no
SendSIGHUP=yes
`

// writeConsole lets systemd serve the console; another init does what it does.
func writeConsole() error {
	const units, name = "/run/systemd/system", "serial-getty@ttyS0.service"
	unit, wants := filepath.Join(units, name), filepath.Join(units, "multi-user.target.wants")
	err := errors.Join(os.MkdirAll(wants, 0o755), os.WriteFile(unit, []byte(consoleUnit), 0o644))
	if err != nil {
		return err
	}
	if err := os.Symlink(unit, filepath.Join(wants, name)); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
