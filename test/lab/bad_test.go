package main

import (
	"strings"
	"testing"
)

// small are the flags of a VM on Firecracker and a snapshot, without a work disk.
const small = cheap + " --work-disk 0 --backend firecracker --network routed"

// refused fails unless a command fails with this code, at once, and says all that is wanted.
// It has no terminal.
func (h *host) refused(user string, code int, command string, want ...string) {
	h.Helper()
	r := h.as(user, "timeout 120 "+command+" </dev/null") // 124: it waited for what does not come
	if r.code != code {
		h.Errorf("%s: %s: exit code %d, not %d: %s%s", user, command, r.code, code, r.out, r.err)
	}
	for _, w := range want {
		if !strings.Contains(r.err, w) {
			h.Errorf("%s: %s: nothing of %q: %s", user, command, w, r.err)
		}
	}
}

// What the host, its administrator or another user does not allow is refused at once,
// with what to do.
func TestRefused(t *testing.T) {
	scenario(t, func(h *host) {
		before := h.left()
		h.ok(root, "echo 'plain ALL=(ALL) ALL' >/etc/sudoers.d/plain") // with a password
		h.refused(plain, 5, "banger run -q --backend firecracker -- true", "permission denied on /dev/kvm", "sudo usermod -aG kvm $USER")
		h.refused(plain, 5, "banger run -q --network routed -- true", "sudo", "password", "sudo /usr/local/lib/banger/banger-root")
		if got := h.ok(plain, "banger ps -q"); got != "" {
			h.Errorf("there are %s", got)
		}

		// Another's VM: not seen, not touched, nor by the way of his directories.
		h.ok(dev, "sudo -n /usr/local/lib/banger/banger-root && banger vm create -q --no-start --name hers "+small)
		h.refused(plain, 3, "banger rm hers", "hers")
		h.refused(plain, 5, "env BANGER_STATE_DIR=/home/dev/.local/state/banger banger ps")
		h.ok(root, "test -S /run/user/$(id -u dev)/banger/bangerd.sock")
		h.refused(plain, 7, "curl -sS --unix-socket /run/user/$(id -u dev)/banger/bangerd.sock http://banger/v1/vms") // cannot connect
		if got := h.ok(dev, "banger ps -q"); got != "hers" {
			h.Errorf("of dev's there are %s", got)
		}

		h.withoutMapper(dev, "hers")

		h.ok(dev, "banger rm hers && banger daemon stop")
		h.ok(plain, "banger daemon stop")
		h.endRoot()
		if after := h.left(); after != before {
			h.Errorf("left:\n%s\nand before:\n%s", after, before)
		}
	})
}

// The same of root's: another user's VM, and a host without device mapper.
func TestRefusedAsRoot(t *testing.T) {
	scenario(t, func(h *host) {
		before := h.left()
		h.ok(root, "banger vm create -q --no-start --name hers "+small+" && test -S /run/banger/bangerd.sock")
		h.refused(plain, 3, "banger rm hers", "hers")
		h.refused(plain, 5, "env BANGER_STATE_DIR=/var/lib/banger banger ps")
		h.refused(plain, 7, "curl -sS --unix-socket /run/banger/bangerd.sock http://banger/v1/vms") // cannot connect
		if got := h.ok(root, "banger ps -q"); got != "hers" {
			h.Errorf("of root's there are %s", got)
		}
		h.withoutMapper(root, "hers")
		h.ok(root, "banger rm hers && banger daemon stop")
		h.ok(plain, "banger daemon stop")
		h.endRoot()
		if after := h.left(); after != before {
			h.Errorf("left:\n%s\nand before:\n%s", after, before)
		}
	})
}

// withoutMapper takes the host's device mapper away for a while: told by doctor, and by
// the start of a VM whose disk needs one.
func (h *host) withoutMapper(user, vm string) {
	h.Helper()
	h.ok(root, "cd /lib/modules/$(uname -r) && modprobe -r dm_snapshot dm_zero; modprobe -r dm_mod; ! grep -q device-mapper /proc/misc && mv kernel/drivers/md /tmp/md && depmod")
	if r := h.as(user, "banger doctor"); !strings.Contains(r.out, "no device-mapper snapshots") {
		h.Errorf("doctor says nothing of it: %+v", r)
	}
	h.refused(user, 5, "banger start -q "+vm, "device-mapper")
	h.ok(root, "cd /lib/modules/$(uname -r) && mv /tmp/md kernel/drivers/md && depmod")
}

// A VMM is killed, an image's file is changed: told as what they are, nothing stays
// behind, and nothing is lost. The bundle that it came from mends the image.
func TestKilledAndCorrupted(t *testing.T) { scenario(t, func(h *host) { h.killedAndCorrupted(dev) }) }
func TestKilledAndCorruptedAsRoot(t *testing.T) {
	scenario(t, func(h *host) { h.killedAndCorrupted(root) })
}

func (h *host) killedAndCorrupted(user string) {
	h.ok(user, "banger run -q "+small+" --name one -- sh -c 'echo kept >/note; sync'")
	h.ok(root, "kill -9 $(pgrep -x firecracker)")
	h.ok(user, "banger vm wait one --for stopped --timeout 1m")
	if got := h.ok(user, "banger vm show one"); !strings.Contains(got, "Firecracker was ended by SIGKILL") {
		h.Errorf("after the VMM was killed:\n%s", got)
	}
	if got := h.ok(root, "losetup -a; dmsetup ls | grep -v '^No devices'; ip -o link | grep ' bt'; exit 0"); got != "" {
		h.Errorf("of a VM whose VMM was killed there are %s", got)
	}

	image := h.ok(user, "find "+stateOf(user)+"/blobs -size "+h.ok(root, "stat -c %s /lab/small/busybox.ext4")+"c")
	h.ok(user, "chmod u+w "+image+" && printf changed | dd of="+image+" bs=1 seek=1M conv=notrunc status=none")
	h.ok(root, "umount /lab/small") // else it is taken from there once more
	h.refused(user, 5, "banger start -q one", "has changed since it was registered", "put the file back")
	h.ok(root, "mount /lab/small")
	if got := h.ok(user, "banger start -q one >/dev/null && banger exec one -- cat /note"); got != "kept" {
		h.Errorf("with its bundle again, it says %q", got)
	}
	h.ok(user, "banger rm --force one && banger daemon stop")
}

// The host's disk runs full under a VM: it is paused, says so, and goes on when there is
// room; on a full one nothing is begun that cannot be ended.
func TestFullDisk(t *testing.T)       { scenario(t, func(h *host) { h.fullDisk(dev) }) }
func TestFullDiskAsRoot(t *testing.T) { scenario(t, func(h *host) { h.fullDisk(root) }) }

func (h *host) fullDisk(user string) {
	h.ok(root, "truncate -s 512M /srv/disk && mkfs.ext4 -q /srv/disk && mkdir /srv/little && mount -o loop /srv/disk /srv/little && chown "+user+" /srv/little")
	before := h.left()
	const on = "export BANGER_STATE_DIR=/srv/little/s; "
	h.ok(user, on+"banger run -q "+small+" --disk 128MiB --name one -- true")
	free := "$(df --output=avail -B 1M /srv/little | tail -n 1)"
	h.ok(user, "fallocate -l $(("+free+" - 24))M /srv/little/rest")
	h.ok(user, on+`banger exec one -- sh -c 'setsid sh -c "dd if=/dev/urandom of=/big bs=1M count=40 conv=fsync && md5sum </big >/sum" >/dev/null 2>&1 </dev/null &'
for i in $(seq 100); do banger vm show one | grep paused: && exit 0; sleep 1; done; banger vm show one; df /srv/little; exit 1`)
	for command, want := range map[string]string{"banger ps": "degraded", "banger doctor": "one: paused"} {
		if r := h.as(user, on+command); !strings.Contains(r.out, want) {
			h.Errorf("%s says nothing of %q: %+v", command, want, r)
		}
	}
	h.ok(user, "dd if=/dev/zero of=/srv/little/all bs=1M 2>/dev/null; [ "+free+" = 0 ]")
	h.refused(user, 5, "env BANGER_STATE_DIR=/srv/little/s banger run -q "+small+" --name two -- true", "df -h")
	h.ok(user, "rm /srv/little/all /srv/little/rest")
	h.ok(user, on+`for i in $(seq 100); do banger vm show one | grep -q paused: || break; sleep 1; done
banger exec one -- sh -c 'for i in $(seq 100); do [ -s /sum ] && break; sleep 1; done; md5sum </big | cmp - /sum'`)
	h.ok(user, on+"banger rm --force one && banger daemon stop")
	h.endRoot()
	if after := h.left(); after != before {
		h.Errorf("left:\n%s\nand before:\n%s", after, before)
	}
	h.ok(root, "umount /srv/little")
}
