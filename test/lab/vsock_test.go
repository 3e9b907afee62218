package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/test/sandbox"
)

// A guest on Firecracker whose network is gone can be used as before, by the next
// daemon as well, and shuts down when it is asked to.
func TestVSock(t *testing.T)       { scenario(t, func(h *host) { h.withoutNetwork(dev) }) }
func TestVSockAsRoot(t *testing.T) { scenario(t, func(h *host) { h.withoutNetwork(root) }) }

func (h *host) withoutNetwork(user string) {
	before := h.left()
	h.ok(user, "banger run -q "+cheap+" --backend firecracker --name one -- true")
	// What is taken away from eth0 comes back, and so it has to be another's. The command
	// that does it is answered.
	if got := h.ok(user, "banger exec one -- sh -c 'ip link set eth0 down && ip link set eth0 name gone0 && cat /sys/class/net/gone0/operstate'"); got != "down" {
		h.Errorf("the card is %s", got)
	}
	if got := h.ok(user, "banger exec one -- hostname"); got != "one" {
		h.Errorf("without its network the guest says %q", got)
	}
	// More than all the buffers on the way hold, there and back.
	h.ok(user, `head -c 4194304 /dev/urandom >sent && banger exec one -- sh -c 'cat >/tmp/b && cat /tmp/b' <sent | cmp - sent && rm sent`)
	h.ok(user, "banger daemon restart")
	if got := h.ok(user, "echo back and forth | banger exec one -- cat"); got != "back and forth" {
		h.Errorf("to the next daemon it says %q", got)
	}
	// The guest's way to the host leads nowhere.
	if got := h.ok(root, "ls "+stateOf(user)+"/vms/*/ | grep vsock"); got != "vsock" {
		h.Errorf("sockets: %s", got)
	}
	h.ok(user, "banger vm stop one")
	if got := h.ok(user, "banger vm show -o json one"); !strings.Contains(got, `"guest"`) {
		h.Errorf("after a stop:\n%s", got)
	}
	h.ok(user, "banger rm one && banger daemon stop")
	h.ok(user, "sudo pkill -x banger-root; while pgrep -x banger-root >/dev/null; do sleep 0.2; done")
	if after := h.left(); after != before {
		h.Errorf("left:\n%s\nand before:\n%s", after, before)
	}
}

// stateOf is where a user's daemon keeps its state.
func stateOf(user string) string {
	if user == root {
		return "/var/lib/banger"
	}
	return "/home/" + user + "/.local/state/banger"
}

// smallModules makes the modules' disk of the small bundle: of all that the real one
// has, what a guest loads where it has a vsock.
func smallModules(file string) error {
	dir, err := os.MkdirTemp("", "banger-lab-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	const at = "kernel/net/vmw_vsock"
	if err := os.MkdirAll(filepath.Join(dir, at), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"vsock.ko", "vmw_vsock_virtio_transport_common.ko", "vmw_vsock_virtio_transport.ko"} {
		if err := tool("debugfs", "-R", "dump "+at+"/"+name+" "+filepath.Join(dir, at, name), filepath.Join(sandbox.Runtime(), "modules.ext4")); err != nil {
			return err
		}
	}
	return tool("mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", dir, file, "2M")
}
