#!/usr/bin/env bash
# stock.sh DIR KEY.pub [ADDRESS GATEWAY]: a stock Debian 12 in DIR: disk.ext4, vmlinuz,
# initrd.img. Its own kernel with the initrd of its own initramfs-tools, its own
# systemd and sshd, no unit masked; of ours are the key and the address. It has
# its host keys and machine-id, as if booted before: a first boot takes longer.
# Works as root and, by subordinate ids, as an ordinary user.
set -euo pipefail
dir=$1 key=$2 address=${3:-10.0.2.15/24} gateway=${4:-10.0.2.2}
packages=systemd,systemd-sysv,dbus,udev,kmod,iproute2,netbase,openssh-server,sudo,ca-certificates,initramfs-tools,zstd,linux-image-cloud-amd64

inside() { # COMMAND…: as root, mounts and processes vanish with it
	local ids=()
	[ "$(id -u)" = 0 ] || ids=(--map-root-user --map-auto)
	unshare "${ids[@]}" --mount --pid --fork --kill-child --mount-proc -- "$@"
}

rm -rf "$dir.new" 2>/dev/null || inside rm -rf "$dir.new"
mkdir -p "$dir.new/tmp" "$dir.new/out"
chmod 755 "$dir.new"
chmod 777 "$dir.new/tmp" "$dir.new/out"

# The host's mirror is the one that works here; none found: Debian's own.
# shellcheck disable=SC2016 # apt's own fields
mapfile -t sources < <(apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
	grep -E ' bookworm(-updates|-security)? main$' | grep -E '^deb https?:' | sort -u)
proxies=()
while IFS= read -r line; do proxies+=("--aptopt=$line"); done < <(apt-config dump Acquire::http::Proxy Acquire::https::Proxy | grep -v ' "";$')

tree=$dir.new/tree
# shellcheck disable=SC2016 # $1 is for the hook
TMPDIR=$dir.new/tmp inside mmdebstrap --quiet --mode=root --format=directory --variant=minbase \
	--include="$packages" --dpkgopt=force-unsafe-io --aptopt='Acquire::Languages "none"' "${proxies[@]}" \
	--customize-hook='install -d -m 700 "$1/root/.ssh"' \
	--customize-hook="install -m 600 '$key' \"\$1/root/.ssh/authorized_keys\"" \
	--customize-hook='printf "[Match]\nName=eth0\n[Network]\nAddress='"$address"'\nGateway='"$gateway"'\n" >"$1/etc/systemd/network/eth0.network"' \
	--customize-hook='echo "/dev/vda / ext4 rw,errors=remount-ro 0 1" >"$1/etc/fstab"; echo stock >"$1/etc/hostname"' \
	--customize-hook='chroot "$1" systemctl --quiet enable systemd-networkd' \
	--customize-hook='chroot "$1" systemd-machine-id-setup; touch "$1/etc/.updated" "$1/var/.updated"' \
	--customize-hook="cp \"\$1/etc/ssh/ssh_host_ed25519_key.pub\" '$dir.new/out/host.pub'" \
	--customize-hook="cp -L \"\$1/vmlinuz\" '$dir.new/out/vmlinuz'; cp -L \"\$1/initrd.img\" '$dir.new/out/initrd.img'; chmod 644 '$dir.new/out/'*" \
	bookworm "$tree" "${sources[@]}"
truncate -s 2G "$dir.new/out/disk.ext4"
inside mke2fs -q -t ext4 -E root_owner=0:0 -d "$tree" "$dir.new/out/disk.ext4"
inside rm -rf --one-file-system "$tree" "$dir.new/tmp"
chmod 755 "$dir.new/out"
rm -rf "$dir"
mv "$dir.new/out" "$dir"
rm -rf "$dir.new"
