package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"banger/internal/guestapi"
	"banger/internal/initramfs"
	"banger/test/sandbox"
)

// Firecracker itself, without banger on the host: the bundle's kernel, modules and image,
// and the guest program, which its tap leads to.
func TestFirecrackerByHand(t *testing.T) {
	scenario(t, func(h *host) {
		if got := h.ok(dev, "firecracker --version | head -n 1; jailer --version | head -n 1"); !strings.Contains(got, "Firecracker v1.12.1") || !strings.Contains(got, "Jailer v1.12.1") {
			h.Errorf("versions: %s", got)
		}
		dir := t.TempDir()
		vmlinux(t, filepath.Join(dir, "vmlinux"))
		byHand(t, dir)
		h.put(dev, "fc", dir)
		h.ok(root, "ip tuntap add fc0 mode tap user dev && ip address add 172.31.9.1/32 dev fc0 && ip link set fc0 up && ip route add 172.31.9.2/32 dev fc0")
		h.ok(dev, `cd fc && chmod 600 key && cp /lab/small/busybox.ext4 disk && chmod 600 disk
setsid firecracker --no-api --config-file vm.json >console 2>&1 </dev/null &`)
		got := h.ok(dev, `cd fc && for i in $(seq 60); do
	ssh -F /dev/null -i key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=3 -p `+strconv.Itoa(guestapi.Port)+` root@172.31.9.2 'hostname; cat /proc/cmdline' 2>ssh.err && exit 0
	pgrep -x firecracker >/dev/null || break
	sleep 1
done
cat ssh.err console; exit 1`)
		if !strings.HasPrefix(got, "byhand\n") {
			h.Errorf("the guest says %s", got)
		}
		h.ok(root, "kill $(pgrep -x firecracker); ip link delete fc0")
	})
}

// Device mapper has what root disks need.
func TestDeviceMapper(t *testing.T) {
	scenario(t, func(h *host) {
		got := h.ok(root, `modprobe -a dm-snapshot dm-zero loop && dmsetup targets && cd /tmp && truncate -s 8M image cow
image=$(losetup -f --show -r image) && cow=$(losetup -f --show cow)
echo "0 16384 snapshot $image $cow P 8" | dmsetup create trial && dd if=/dev/urandom of=/dev/mapper/trial bs=4k count=16 conv=fsync status=none && dmsetup status trial
dmsetup remove --retry trial && losetup -d $image $cow`)
		for _, want := range []string{"snapshot ", "snapshot-origin", "linear", "zero", "0 16384 snapshot "} {
			if !strings.Contains(got, want) {
				h.Errorf("device mapper says nothing of %q:\n%s", want, got)
			}
		}
	})
}

// vmlinux takes the ELF kernel, which Firecracker wants, out of the bundle's bzImage: its header says where it is
// (https://docs.kernel.org/arch/x86/boot.html), and Debian's is packed as an lz4 legacy frame, which its
// length follows.
func vmlinux(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(sandbox.Runtime(), "vmlinuz"))
	must(t, err)
	start := (int(b[0x1f1])+1)*512 + int(binary.LittleEndian.Uint32(b[0x248:]))
	end := start + int(binary.LittleEndian.Uint32(b[0x24c:])) - 4
	out, err := os.Create(file)
	must(t, err)
	defer out.Close()
	unpack := exec.CommandContext(t.Context(), lab.image.file("tools/run"), "bin/lz4", "-d", "-c")
	unpack.Stdin, unpack.Stdout = bytes.NewReader(b[start:end]), out
	must(t, unpack.Run())
}

// byHand makes the rest of what Firecracker is started with: vm.json, an initramfs of the guest program's, and a key.
func byHand(t *testing.T, dir string) {
	t.Helper()
	public, key := newKey(t)
	must(t, os.WriteFile(filepath.Join(dir, "key"), []byte(key), 0o600))
	_, hostKey := newKey(t)
	identity, err := json.Marshal(guestapi.Identity{
		Version: 1, VM: "0b0b0b0b", Launch: "0123456789abcdef", Hostname: "byhand", MachineID: strings.Repeat("0b", 16),
		MAC: "02:00:00:00:00:02", Address: netip.MustParsePrefix("172.31.9.2/32"), Gateway: netip.MustParseAddr("172.31.9.1"),
		HostKey: hostKey, AuthorizedKeys: []string{public},
	})
	must(t, err)
	guest, err := os.Open(filepath.Join(programs(), "banger-guest"))
	must(t, err)
	defer guest.Close()
	base, err := os.Open(filepath.Join(sandbox.Runtime(), "initramfs.img"))
	must(t, err)
	defer base.Close()
	out, err := os.Create(filepath.Join(dir, "initrd"))
	must(t, err)
	must(t, initramfs.Join(out, identity, guest, base))
	must(t, out.Close())
	must(t, os.WriteFile(filepath.Join(dir, "vm.json"), []byte(`{
	"boot-source": {"kernel_image_path": "vmlinux", "initrd_path": "initrd", "boot_args": "console=ttyS0 reboot=k panic=1 net.ifnames=0 quiet"},
	"machine-config": {"vcpu_count": 1, "mem_size_mib": 512},
	"drives": [
		{"drive_id": "root", "path_on_host": "disk", "is_root_device": false, "is_read_only": false},
		{"drive_id": "modules", "path_on_host": "/lab/small/modules.ext4", "is_root_device": false, "is_read_only": true}
	],
	"network-interfaces": [{"iface_id": "eth0", "host_dev_name": "fc0", "guest_mac": "02:00:00:00:00:02"}]
}
`), 0o644))
}

// newKey returns a key pair, the public half as in authorized_keys.
func newKey(t *testing.T) (public, private string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(key, "")
	must(t, err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), string(pem.EncodeToMemory(block))
}
