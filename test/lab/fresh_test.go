package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// On a host with KVM, set up as the documentation says and never used before, a plain
// banger run makes a VM on Firecracker with a snapshot, a work disk and a routed network,
// and asks nobody anything.
func TestFresh(t *testing.T) {
	scenario(t, func(h *host) {
		before := h.left()
		h.ok(root, "! pgrep -x banger-root")
		r := h.as(dev, "cd / && env -i HOME=$HOME PATH=/usr/local/bin:/usr/bin:/bin USER=dev XDG_RUNTIME_DIR=$XDG_RUNTIME_DIR banger run "+cheap+" --name one -- awk '$2 == \"/root\" { print $1 }' /proc/mounts </dev/null")
		if r.code != 0 || strings.TrimSpace(r.out) != "/dev/vdc" || !strings.Contains(r.err, "banger-root does not run: sudo -n "+rootProgram) {
			h.Errorf("run ends with %+v", r)
		}
		var v struct{ Backend, Network, Accelerator string }
		must(t, json.Unmarshal([]byte(h.ok(dev, "banger vm show -o json one")), &v))
		if v.Backend != "firecracker" || v.Network != "routed" || v.Accelerator != "kvm" {
			h.Errorf("it is %+v", v)
		}
		h.kept(dev, "one", 0, "disk.cow")
		if got := h.ok(root, "dmsetup ls | grep -c ^banger-"); got != "2" {
			h.Errorf("it has %s mapper devices", got)
		}
		h.finds(dev, "a host that has everything", map[string]string{
			"backend firecracker": `^warning Firecracker 1\.12\.1 lacks the fix .* -> docs/backends.md`, // the version's own
			"backend qemu":        `^ok QEMU emulator`,
			"accelerator":         `^ok kvm: hardware virtualisation works`,
			"storage":             `^ok dmsnap$`,
			"network routed":      `^ok banger-root makes taps, routes and NAT`,
		})
		h.ok(dev, "banger rm --force one && banger daemon stop")
		h.endRoot()
		if after := h.left(); after != before {
			h.Errorf("left:\n%s\nand before:\n%s", after, before)
		}
	})
}

// What a host with KVM lacks is told by doctor, line by line, with the command that mends
// it; done, it is mended.
func TestDoctor(t *testing.T) {
	scenario(t, func(h *host) {
		const start = ` -> start it: sudo ` + rootProgram
		whole := map[string]string{
			"backend firecracker": `^warning Firecracker 1\.12\.1 lacks the fix`,
			"accelerator":         `^ok kvm:`,
			"storage":             `^ok dmsnap, once banger-root runs$`,
			"network routed":      `^note banger-root does not run; banger run and vm create start it, if sudo asks no password for it` + start + `$`,
		}
		h.finds(dev, "without banger-root", whole)
		with := func(lines map[string]string) map[string]string {
			all := map[string]string{}
			for name, line := range whole {
				all[name] = line
			}
			for name, line := range lines {
				all[name] = line
			}
			return all
		}

		h.ok(root, "mv /usr/local/bin/firecracker /root/")
		h.ok(dev, "banger daemon restart") // each daemon asks it for its version once
		h.finds(dev, "without Firecracker", with(map[string]string{
			"backend firecracker": `^note not usable, new VMs run on qemu: firecracker is not installed.* -> take a release: https://github.com/firecracker-microvm/firecracker/releases`,
		}))
		h.ok(root, "mv /root/firecracker /usr/local/bin/")
		h.finds(dev, "with Firecracker again", whole)

		// No banger-root that none but root can change: nobody tries sudo.
		h.ok(root, "chown dev "+rootProgram)
		h.finds(dev, "with a banger-root that dev can change", with(map[string]string{
			"backend firecracker": `^warning Firecracker v1\.12\.1 works, but new VMs run on qemu: it needs network mode routed: banger-root does not run; Firecracker 1\.12\.1 lacks .*` + start,
			"storage":             `^ok overlay; not dmsnap: banger-root does not run`,
			"network routed":      `^note cannot be used now: banger-root does not run` + start + `$`,
		}))
		h.ok(root, "chown root "+rootProgram)

		// No sudo.
		h.ok(root, "mv /usr/bin/sudo /usr/bin/sudo.away")
		h.ok(dev, "banger daemon restart")
		h.finds(dev, "without sudo", with(map[string]string{
			"storage":             `^ok overlay; not dmsnap: banger-root does not run`,
			"network routed":      `^note cannot be used now: banger-root does not run -> start it: as root, SUDO_UID=1000 ` + rootProgram + `$`,
			"backend firecracker": `^warning Firecracker v1\.12\.1 works, but new VMs run on qemu: .* -> start it: as root, SUDO_UID=1000 ` + rootProgram + `;`,
		}))
		h.ok(root, "SUDO_UID=1000 "+rootProgram)
		h.finds(dev, "with a banger-root that was started by root", with(map[string]string{
			"storage":        `^ok dmsnap$`,
			"network routed": `^ok banger-root makes taps`,
		}))
		h.endRoot()
		h.ok(root, "mv /usr/bin/sudo.away /usr/bin/sudo")
		h.ok(dev, "banger daemon restart")

		h.ok(root, "cd /lib/modules/$(uname -r) && { modprobe -r dm_snapshot dm_zero; modprobe -r dm_mod; ! grep -q device-mapper /proc/misc; } && mv kernel/drivers/md /tmp/md && depmod")
		h.finds(dev, "without a device mapper", with(map[string]string{
			"storage": `^warning copy; not dmsnap: this host's kernel has no device-mapper snapshots; not reflink: .* -> for disks that take neither time nor room: install a kernel that has them, such as linux-image-amd64.*; or: keep banger's state on btrfs`,
		}))
		h.ok(root, "cd /lib/modules/$(uname -r) && mv /tmp/md kernel/drivers/md && depmod")
		h.finds(dev, "with a device mapper again", whole)
		h.ok(dev, "banger daemon stop")

		// Not in group kvm; banger-root could give it.
		h.finds(plain, "outside of group kvm", with(map[string]string{
			"backend firecracker": `^note not usable, new VMs run on qemu: Firecracker needs hardware virtualisation: no KVM: permission denied on /dev/kvm.* -> sudo usermod -aG kvm \$USER, then log in again`,
			"accelerator":         `^warning tcg: .*permission denied on /dev/kvm.*sudo usermod -aG kvm \$USER`,
		}))
		h.ok(plain, "banger daemon stop; sudo usermod -aG kvm $USER")
		h.logOut(plain)
		h.finds(plain, "in group kvm", whole)
		h.ok(plain, "banger daemon stop")
	})
}

// finds holds lines of doctor's, "STATUS RESULT -> REMEDY", against what they have to be;
// no other line may be of a failure.
func (h *host) finds(user, when string, lines map[string]string) {
	h.Helper()
	r := h.as(user, "banger doctor -o json")
	var report struct {
		Checks []struct{ Name, Status, Message, Remedy string }
	}
	if err := json.Unmarshal([]byte(r.out), &report); err != nil {
		h.Fatalf("%s doctor says %+v", when, r)
	}
	seen := 0
	for _, c := range report.Checks {
		line := c.Status + " " + c.Message
		if c.Remedy != "" {
			line += " -> " + c.Remedy
		}
		want, ok := lines[c.Name]
		if ok {
			seen++
		}
		if ok && !regexp.MustCompile(want).MatchString(line) {
			h.Errorf("%s, %s: %s\nand not %s", when, c.Name, line, want)
		}
		if !ok && c.Status == "failed" || c.Status != "ok" && c.Remedy == "" {
			h.Errorf("%s, %s: %s", when, c.Name, line)
		}
	}
	if seen != len(lines) {
		h.Errorf("%s doctor has %d of the %d lines: %s", when, seen, len(lines), r.out)
	}
}
