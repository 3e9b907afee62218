package main

import (
	"strings"
	"testing"
)

const rootProgram = "/usr/local/lib/banger/banger-root"

// A VM is stopped and deleted while there is no banger-root: its disk's devices are told
// as pending, and go once there is one. So do those of a VM that nobody knows of.
func TestDisksLeft(t *testing.T) {
	scenario(t, func(h *host) {
		before := h.left()
		h.ok(dev, "banger vm create -q "+cheap+" --backend firecracker --name one >/dev/null")
		h.ok(root, "mv "+rootProgram+" /root/ && pkill -x banger-root; while pgrep -x banger-root; do sleep 0.2; done")
		h.ok(dev, "banger vm stop one")
		h.ok(root, `tag=$(dmsetup ls | sed -n 's/^banger-\([0-9a-f]*\)-.*-origin.*/\1/p')
dmsetup create unknown --uuid BANGER-$(id -u dev)-$tag-deadbeef --table '0 8 zero'
dmsetup create foreign --uuid BANGER-0-$tag-deadbeef --table '0 8 zero'`)
		status := h.ok(dev, "banger daemon status")
		for _, want := range []string{"Pending", "-origin, ", "unknown"} {
			if !strings.Contains(status, want) {
				h.Errorf("status says nothing of %q:\n%s", want, status)
			}
		}
		if doctor := h.as(dev, "banger doctor").out; !strings.Contains(doctor, "has yet to remove banger-") {
			h.Errorf("doctor says\n%s", doctor)
		}
		h.ok(dev, "banger rm one && banger daemon restart && banger ps")
		if got := h.ok(dev, "banger daemon status -o json"); !strings.Contains(got, `"unknown"`) {
			h.Errorf("to the next daemon nothing is pending:\n%s", got)
		}
		h.ok(root, "mv /root/banger-root "+rootProgram)
		h.ok(dev, "sudo "+rootProgram+" && for i in $(seq 100); do banger daemon status | grep -q Pending || exit 0; sleep 0.5; done; exit 1")
		h.ok(root, "dmsetup remove foreign") // another user's is not touched
		h.ok(dev, "banger daemon stop; sudo pkill -x banger-root; while pgrep -x banger-root; do sleep 0.2; done")
		if after := h.left(); after != before {
			h.Errorf("left:\n%s\nand before:\n%s", after, before)
		}
	})
}
