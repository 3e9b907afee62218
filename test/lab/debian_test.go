package main

import (
	"os"
	"strings"
	"testing"
)

// The bundle's own Debian on Firecracker and a snapshot: it comes up, its sshd lets the
// user in beside the guest program, its reboot comes back with all that is on both disks,
// and its poweroff ends the VM.
func TestDebianOnFirecracker(t *testing.T) {
	if os.Getenv("LAB") != "full" {
		t.Skip("hashes a whole Debian where each instruction is emulated, and boots it twice: LAB=full")
	}
	scenario(t, func(h *host) {
		before := h.left()
		h.ok(root, "rm /usr/local/runtime && ln -s /lab/runtime /usr/local/runtime")
		h.ok(dev, "banger run -q --cpu 1 --memory 512MiB --disk 2GiB --work-disk 64MiB --name deb -- true && banger vm wait deb --for booted --timeout 6m")
		if got := h.place("deb"); !strings.Contains(got, `"backend":"firecracker"`) {
			h.Errorf("it is %s", got)
		}
		h.kept(dev, "deb", 0, "disk.cow")
		if got := h.ok(dev, "banger exec deb -- sh -c 'systemctl is-system-running --wait; findmnt -n -o SOURCE /; findmnt -n -o SOURCE /root; df -k / | awk \"END { print (\\$2 > 1900000) }\"'"); got != "running\n/dev/vda\n/dev/vdc\n1" {
			h.Errorf("it says %q", got)
		}
		// By its own sshd, which reads the key from the work disk.
		h.ok(dev, `key=$(ssh-keygen -y -f .local/state/banger/id_ed25519) && banger exec deb -- sh -c "umask 77; mkdir -p /root/.ssh && echo '$key' >/root/.ssh/authorized_keys && echo root >/root/note && echo disk >/note && sync"`)
		const sshd = "ssh -F /dev/null -i .local/state/banger/id_ed25519 -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -p 22 root@"
		if got := h.ok(dev, sshd+h.address("deb")+" 'cat /root/note; systemctl is-active ssh'"); got != "root\nactive" {
			h.Errorf("by its sshd it says %q", got)
		}
		boot := h.ok(dev, "banger exec deb -- "+bootID)
		h.ok(dev, "banger exec deb -- reboot; for i in $(seq 300); do id=$(banger exec deb -- "+bootID+" 2>/dev/null) && [ $id != "+boot+" ] && exit; sleep 1; done; exit 1")
		if got := h.ok(dev, "banger exec deb -- cat /note /root/note && banger vm wait deb --for booted --timeout 6m >/dev/null"); got != "disk\nroot" {
			h.Errorf("after a reboot it says %q", got)
		}
		h.ok(dev, "banger exec deb -- poweroff; banger vm wait deb --for stopped --timeout 4m")
		if got := h.ok(dev, "banger vm show deb | grep '^Last end'"); !strings.HasSuffix(got, ", guest") {
			h.Errorf("after a poweroff: %s", got)
		}
		if got := h.ok(root, "pgrep -x firecracker; dmsetup ls | grep ^banger-; ip -o link | grep ' bt'; exit 0"); got != "" {
			h.Errorf("after a poweroff there are %s", got)
		}
		h.ok(dev, "banger rm deb && banger daemon stop")
		h.endRoot()
		if after := h.left(); after != before {
			h.Errorf("left:\n%s\nand before:\n%s", after, before)
		}
	})
}
