package daemon

import (
	"bytes"
	"os"
)

// bootID names the host's boot: a random number of the kernel's.
const bootID = "/proc/sys/kernel/random/boot_id"

// firstSinceBoot reports whether no daemon of this installation has started
// the VMs that start with it since the host booted.
func (d *daemon) firstSinceBoot() bool {
	now, err := os.ReadFile(bootID)
	if err != nil {
		d.log.Warn("read the host's boot ID", "err", err)
	}
	then, err := os.ReadFile(d.layout.Booted())
	return err != nil || !bytes.Equal(now, then)
}

// recordBoot remembers that they have been started. If it cannot, the next
// daemon starts them again, but for those that run.
func (d *daemon) recordBoot() {
	now, err := os.ReadFile(bootID)
	if err == nil {
		temp := d.layout.Booted() + ".tmp"
		if err = os.WriteFile(temp, now, 0o600); err == nil {
			err = os.Rename(temp, d.layout.Booted())
		}
	}
	if err != nil {
		d.log.Warn("record the host's boot", "err", err)
	}
}
