package main

import (
	"bytes"
	"strings"
	"testing"
)

// The host reboots: a VM that ran is stopped, and can be started.
func TestReboot(t *testing.T) {
	scenario(t, func(h *host) {
		h.ok(dev, "banger run -q "+cheap+" --name one -- sh -c 'echo kept >/root/note; sync'")
		h.reboot()
		if got := h.ok(dev, "banger vm show one"); !strings.Contains(got, "stopped") {
			h.Errorf("after the reboot:\n%s", got)
		}
		if got := h.ok(dev, "banger start -q one >/dev/null && banger exec one -- cat /root/note"); got != "kept" {
			h.Errorf("started again, it says %q", got)
		}
		h.ok(dev, "banger rm --force one && banger daemon stop")
	})
}

// reboot reboots the host, as its administrator would, and waits until it is back.
func (h *host) reboot() {
	h.Helper()
	const bootID = "cat /proc/sys/kernel/random/boot_id"
	before := h.ok(root, bootID)
	h.ok(root, "systemctl --no-block reboot")
	for user := range h.users {
		h.logOut(user)
	}
	for h.users[root] == nil { // it may come in before sshd has ended
		c, err := h.m.connect(h.ctx, root)
		if err != nil {
			h.lost(err)
		}
		var id bytes.Buffer
		if _, err := h.m.command(h.ctx, c, bootID, streams{out: &id}); err == nil && strings.TrimSpace(id.String()) != before {
			h.users[root] = c
		} else {
			c.Close()
		}
	}
	h.ok(root, "systemctl is-system-running --wait")
}
