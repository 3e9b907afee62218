package main

import (
	"strings"
	"testing"
)

// A VM that needs banger-root is made with the disk that it has with one, also where it is
// not started yet; where banger-root cannot be had that is told, and nothing is made.
// Then it moves between backends with what it holds; a disk that one of them does not boot
// is refused, with the ways out, which work.
func TestBackends(t *testing.T) {
	scenario(t, func(h *host) {
		before := h.left()
		h.ok(root, "usermod -aG kvm plain; echo 'plain ALL=(ALL) ALL' >/etc/sudoers.d/plain") // with a password
		h.refused(plain, 5, "banger vm create -q --no-start --backend firecracker --name no", "password", "NOPASSWD: "+rootProgram)
		h.kept(plain, "no", 3)
		// Nothing was said of a network, and so it gets what there is.
		if r := h.as(plain, "banger vm create --no-start --name yes "+cheap); r.code != 0 || !strings.Contains(r.err, "network mode user: banger-root does not run") {
			h.Errorf("without a password it is %+v", r)
		}
		h.kept(plain, "yes", 0, "disk.qcow2")
		h.ok(plain, "banger rm yes && banger daemon stop")

		// Of mode user, which needs no banger-root, and has none: qcow2.
		h.ok(dev, "banger vm create -q --no-start --backend qemu --network user --name two "+cheap)
		h.kept(dev, "two", 0, "disk.qcow2")
		h.refused(dev, 4, "banger vm set two --backend firecracker", "needs a tap", "--network routed")
		h.ok(dev, "banger vm set two --backend firecracker --network routed")
		h.refused(dev, 4, "banger start -q two", "qcow2", "banger vm reset two", "banger vm set two --backend qemu")
		h.kept(dev, "two", 0, "disk.qcow2")
		h.ok(dev, "banger vm set two --backend qemu && banger vm set two --backend firecracker && banger vm reset -q two")
		h.kept(dev, "two", 0, "disk.cow")
		h.ok(dev, "banger rm two; sudo pkill -x banger-root; while pgrep -x banger-root; do sleep 0.2; done")

		h.ok(dev, "banger vm create -q --no-start --backend firecracker --name one "+small)
		h.kept(dev, "one", 0, "disk.cow")
		h.ok(dev, "banger start -q one && banger exec one -- sh -c 'echo of Firecracker >/note; sync' && banger vm stop one")
		h.ok(dev, "banger vm set one --backend qemu && banger start -q one")
		if got := h.ok(root, "pgrep -x firecracker; readlink /proc/$(pgrep -f ^qemu-system)/fd/* | grep /dev/dm-"); !strings.HasPrefix(got, "/dev/dm-") {
			h.Errorf("QEMU has %s", got)
		}
		if got := h.ok(dev, "banger exec one -- sh -c 'cat /note; echo of QEMU >/note; sync' && banger vm stop -q one >/dev/null"); got != "of Firecracker" {
			h.Errorf("on QEMU it says %q", got)
		}
		h.ok(dev, "banger vm set one --backend firecracker && banger start -q one")
		if got := h.ok(dev, "banger exec one -- cat /note"); got != "of QEMU" {
			h.Errorf("back on Firecracker it says %q", got)
		}
		h.ok(dev, "banger rm --force one && banger daemon stop")
		h.endRoot()
		if after := h.left(); after != before {
			h.Errorf("left:\n%s\nand before:\n%s", after, before)
		}
	})
}

// kept fails unless banger vm show of a VM ends with this code and its root disk is that
// file and no other.
func (h *host) kept(user, vm string, code int, file ...string) {
	h.Helper()
	r := h.as(user, "banger vm show -o json "+vm)
	if r.code != code {
		h.Errorf("%s: vm show %s: %+v", user, vm, r)
	}
	got := h.ok(user, "ls .local/state/banger/vms/*/ | grep '^disk'; exit 0")
	if want := strings.Join(file, "\n"); got != want {
		h.Errorf("%s: there is %q of root disks, not %q", user, got, want)
	}
}
