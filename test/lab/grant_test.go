package main

import (
	"encoding/json"
	"testing"
)

// Who may not open /dev/kvm has a VM on it by banger-root, which lets the user open it while
// the VMM starts and no longer.
func TestKVMGranted(t *testing.T) {
	scenario(t, func(h *host) {
		const look = `stat -c '%A %U:%G' /dev/kvm; python3 -c "import os; print(os.listxattr('/dev/kvm'))"`
		before := h.ok(root, look)
		h.ok(plain, "! test -w /dev/kvm && sudo "+rootProgram)
		h.ok(plain, "banger run -q "+cheap+" --backend firecracker --network routed --name one -- true")
		var v struct{ Backend, Accelerator string }
		must(t, json.Unmarshal([]byte(h.ok(plain, "banger vm show -o json one")), &v))
		if v.Backend != "firecracker" || v.Accelerator != "kvm" {
			h.Errorf("it is %+v", v)
		}
		h.ok(plain, "! test -w /dev/kvm && banger rm --force one && banger daemon stop")
		h.endRoot()
		if got := h.ok(root, look); got != before {
			h.Errorf("/dev/kvm was\n%s\nand is\n%s", before, got)
		}
	})
}
