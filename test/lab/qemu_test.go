package main

import (
	"os"
	"strings"
	"testing"
)

// cheap are the flags of a VM that costs little: each CPU's ticks alone cost much here, and
// so does each block of a file system that is grown.
const cheap = "--cpu 1 --memory 256MiB --disk 64MiB --work-disk 64MiB"

// An ordinary user, installed as the README says, on a KVM that is real: from doctor to
// nothing being left. And the same as root, where the VMM has a uid of its own.
func TestQEMUOnKVM(t *testing.T)       { scenario(t, func(h *host) { h.life(dev) }) }
func TestQEMUOnKVMAsRoot(t *testing.T) { scenario(t, func(h *host) { h.life(root) }) }

func (h *host) life(user string) {
	before := h.left()
	h.accelerator(user, "kvm")
	if got := h.ok(user, "banger run -q "+cheap+" --backend qemu --network user --name one -- sh -c 'echo uid $(id -u) on $(hostname)'"); got != "uid 0 on one" {
		h.Errorf("run says %q", got)
	}
	if argv := h.ok(user, `tr '\0' ' ' <"/proc/$(pgrep -f ^qemu-system)/cmdline"`); !strings.Contains(argv, "-accel kvm") {
		h.Errorf("QEMU runs as %s", argv)
	}
	if owner := h.ok(root, `stat -c %U "/proc/$(pgrep -f ^qemu-system)"`); owner == root || user != root && owner != user {
		h.Errorf("QEMU is %s's", owner)
	}
	h.ok(user, "banger vm wait one --for booted --timeout 3m && banger vm stop one")
	if got := h.ok(user, "banger vm show one"); !strings.Contains(got, "stopped") {
		h.Errorf("after a stop:\n%s", got)
	}
	h.ok(user, "banger rm one && banger daemon stop")
	if after := h.left(); after != before {
		h.Errorf("left:\n%s\nand before:\n%s", after, before)
	}
}

// The bundle's own Debian comes up. Most of the time goes into reading it once.
func TestDebian(t *testing.T) {
	if os.Getenv("LAB") != "full" {
		t.Skip("hashes a whole Debian where each instruction is emulated, and boots it: LAB=full")
	}
	scenario(t, func(h *host) {
		h.ok(root, "rm /usr/local/runtime && ln -s /lab/runtime /usr/local/runtime")
		h.ok(dev, "banger run -q "+cheap+" --disk 4GiB --backend qemu --network user --name deb -- true && banger vm wait deb --for booted --timeout 4m")
		if got := h.ok(dev, "banger exec deb -- systemctl is-system-running --wait"); got != "running" {
			h.Errorf("its systemd says %q", got)
		}
		h.ok(dev, "banger vm stop deb && banger rm deb && banger daemon stop")
	})
}

// Who is in no group may not open /dev/kvm, and is told what to do; done, it works after
// the next login.
func TestKVMGroup(t *testing.T) {
	scenario(t, func(h *host) {
		said := h.accelerator(plain, "tcg")
		if !strings.Contains(said, "permission denied on /dev/kvm") || !strings.Contains(said, "sudo usermod -aG kvm $USER") {
			h.Errorf("doctor says %s", said)
		}
		h.ok(plain, "banger daemon stop; sudo usermod -aG kvm $USER")
		h.logOut(plain)
		h.accelerator(plain, "kvm")
		h.ok(plain, "banger daemon stop")
	})
}

// accelerator returns doctor's line on that, which has to name one.
func (h *host) accelerator(user, want string) string {
	h.Helper()
	r := h.as(user, "banger doctor")
	for line := range strings.Lines(r.out) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "accelerator" {
			if f[2] != want+":" {
				h.Errorf("accelerator: %s", line)
			}
			return line
		}
	}
	h.Fatalf("doctor says nothing of an accelerator: %+v", r)
	return ""
}
