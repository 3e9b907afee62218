package main

import (
	"strings"
	"testing"
)

// The daemon as a unit of the user's systemd: to restart or stop it leaves a VM on
// Firecracker as it is, and after a boot of the host a VM with --autostart comes up by
// itself, with its tap and its disk, before anybody has logged in.
func TestUnit(t *testing.T) {
	scenarioWithin(t, 2*limit, func(h *host) { // with a cold boot
		before := h.left()
		h.ok(root, "loginctl enable-linger dev")
		unit := h.ok(dev, "banger daemon install || banger daemon install") // on a busy machine half a minute is little
		for _, want := range []string{"KillMode=process", `ExecStartPre=-"/usr/bin/sudo" "-n" "--" "` + rootProgram + `"`} {
			if got := h.ok(dev, "cat "+unit); !strings.Contains(got, want) {
				h.Errorf("the unit says nothing of %s:\n%s", want, got)
			}
		}
		h.ok(dev, "banger run -q "+cheap+" --autostart --name one -- sh -c 'echo kept >/root/note; sync'")
		was := h.place("one")
		vmm, address := h.ok(root, "pgrep -x firecracker"), h.address("one")
		same := func(after string) {
			h.Helper()
			h.ok(dev, "ping -c 1 -W 20 "+address)
			if now := h.ok(root, "pgrep -x firecracker"); now != vmm {
				h.Errorf("after %s Firecracker is %s, and was %s", after, now, vmm)
			}
		}
		h.ok(dev, "systemctl --user restart bangerd")
		same("a restart of the unit")
		if got := h.ok(dev, "banger exec one -- cat /root/note"); got != "kept" {
			h.Errorf("to the daemon after a restart it says %q", got)
		}
		h.ok(dev, "systemctl --user stop bangerd && ! pgrep -x bangerd")
		same("a stop of the unit")
		h.ok(dev, "systemctl --user start bangerd && systemctl --user --quiet is-active bangerd")
		if got := h.ok(dev, "banger exec one -- hostname"); got != "one" {
			h.Errorf("to the daemon after a stop it says %q", got)
		}

		h.reboot()
		h.ok(root, "for i in $(seq 300); do pgrep -x firecracker >/dev/null && exit; sleep 1; done; exit 1") // nobody has asked for it
		if got := h.ok(dev, "banger vm wait one --for ready --timeout 5m >/dev/null && banger exec one -- cat /root/note"); got != "kept" {
			h.Errorf("after the reboot it says %q", got)
		}
		if now := h.place("one"); now != was {
			h.Errorf("after the reboot it is %s, and was %s", now, was)
		}
		h.ok(dev, "systemctl --user --quiet is-active bangerd && banger rm --force one && banger daemon uninstall")
		h.endRoot()
		if after := h.left(); after != before {
			h.Errorf("left:\n%s\nand before:\n%s", after, before)
		}
	})
}

// place is what of a VM stays, and what it runs on.
func (h *host) place(vm string) string {
	h.Helper()
	return h.ok(dev, "banger vm show -o json "+vm+` | grep -E '"(id|name|address|mac|machine_id|backend|network|autostart)"' | tr -d ' \n'`)
}
