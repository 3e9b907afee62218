#!/usr/bin/env bash
# fcbyhand.sh DIR: one VM on Firecracker by hand, run by root: a snapshot of BASE as
# its disk, a tap, Firecracker as the user OWNER, configured by one curl(1) from DIR/requests.
# ssh(1) polls; then it says "ready HOST START TOTAL": seconds that the devices and the
# network took, until InstanceStart was answered, and until ssh had run `true`. Of stdin it
# takes "stop", which it answers with "stopped SECONDS"; its end ends the VM.
#
# In the environment: OWNER BASE SIZE WORK PARTS CARD TAP GATEWAY ADDRESS NETWORK PORT.
# DIR holds requests, key and known_hosts, and beforehand the guest's CPU and all else.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$1"
began=$EPOCHREALTIME # run as root: sudo(8) would cost it more
read -ra pieces <<<"${PARTS:?}"
read -ra lan <<<"${NETWORK:?}"

since() { # SECONDS.MICROSECONDS: of six digits, whatever their sum
	local us=$((${EPOCHREALTIME/./} - ${1/./}))
	printf '%d.%06d' $((us / 1000000)) $((us % 1000000))
}

# Without a process, unlike sleep(1): what is measured has one CPU or two.
exec 9<> <(:)
pause() { read -r -t "$1" -u 9 _ || true; }

undo() {
	[ -z "${vmm-}" ] || { kill -KILL "$vmm" 2>/dev/null || true; wait "$vmm" || true; }
	for name in byhand byhand-origin; do
		[ ! -e "/dev/mapper/$name" ] || dmsetup remove --retry "$name"
	done
	[ -z "${cow-}" ] || losetup --detach "$cow"
	[ -z "${image-}" ] || losetup --detach "$image"
	nft delete table inet byhand 2>/dev/null || true
	ip -force -batch - 2>/dev/null <<IP || true
link delete $TAP
link delete ${lan[2]}
link property del dev ${lan[9]} altname ${lan[10]}
IP
	echo 0 >"/proc/sys/net/ipv4/conf/${lan[9]}/forwarding"
}
trap undo EXIT

truncate -s $((SIZE + SIZE / 128 + (1 << 20))) disk.cow
if [ -n "$WORK" ]; then
	truncate -s "$WORK" work.img
	mke2fs -q -F -t ext4 -U 0b0b0b0b-0b0b-4b0b-8b0b-0b0b0b0b0b0b -E lazy_itable_init=1,lazy_journal_init=1,nodiscard work.img
	chown "$OWNER" work.img
fi
cat "${pieces[@]}" >initrd
chown "$OWNER" . initrd

hand=$EPOCHREALTIME
image=$(losetup --find --show --read-only "$BASE")
cow=$(losetup --find --show disk.cow)
read -r have <"/sys/block/${image#/dev/}/size"
want=$((SIZE / 512))
dmsetup create --readonly byhand-origin <<TABLE
0 $have linear $image 0
$have $((want - have)) zero
TABLE
dmsetup create byhand --table "0 $want snapshot /dev/mapper/byhand-origin $cow P 8"
chown "$OWNER" /dev/mapper/byhand
disk=$(since "$hand")
hand=$EPOCHREALTIME
"$here/netbyhand.sh" "${lan[@]}" <<<"$TAP|$CARD|byhand|$ADDRESS"
net=$(since "$hand")

setpriv --reuid "$OWNER" --regid "$OWNER" --init-groups --inh-caps=-all firecracker --id byhand --api-sock api.sock </dev/null >serial.log 2>vmm.log &
vmm=$!
until [ -S api.sock ]; do
	kill -0 "$vmm" || { cat vmm.log serial.log >&2; exit 1; }
	pause 0.005
done
curl -sS --fail-with-body -K requests >curl.log || { cat curl.log vmm.log serial.log >&2; exit 1; }
start=$(since "$began")

# The kernel keeps a connection's first packet until the guest's card says that it is
# there, so that the first ssh waits for the guest, and costs nothing.
reach() {
	ssh -n -F none -p "$PORT" -i key -o IdentitiesOnly=yes -o BatchMode=yes -o LogLevel=ERROR \
		-o StrictHostKeyChecking=yes -o UserKnownHostsFile=known_hosts "root@$ADDRESS" "$1" 2>ssh.log
}
until reach true; do
	kill -0 "$vmm" || { cat vmm.log serial.log >&2; exit 1; }
	[ "$SECONDS" -lt 900 ] || { tail -n 20 serial.log ssh.log >&2; exit 1; }
	pause 0.1
done
echo "ready $disk $net $start $(since "$began")"
while read -r word; do
	[ "$word" = stop ] || continue
	reach "until systemctl is-system-running --wait 2>/dev/null | grep -qE 'running|degraded'; do sleep 0.5; done"
	hand=$EPOCHREALTIME
	reach poweroff >/dev/null || [ $? = 255 ] # it may hang up first
	wait "$vmm" || true
	vmm='' # and all that it had goes
	undo
	image='' cow=''
	echo "stopped $(since "$hand")"
done
