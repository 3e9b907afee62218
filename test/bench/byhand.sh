#!/usr/bin/env bash
# byhand.sh DIR BASE SIZE PORT PART… -- QEMU ARGUMENT…: one VM by hand.
# Makes DIR/disk.qcow2 over BASE, joins the PARTs into DIR/initrd, starts QEMU
# and polls PORT until ssh(1) has run `true`; then it says "ready" and keeps the
# VM until its stdin ends. DIR holds known_hosts and the user's key.
set -euo pipefail
dir=$1 base=$2 size=$3 port=$4
shift 4
parts=()
while [ "$1" != -- ]; do
	parts+=("$1")
	shift
done
shift

qemu-img create -q -f qcow2 -F raw -b "$base" "$dir/disk.qcow2" "$size"
cat "${parts[@]}" >"$dir/initrd"
"$@" </dev/null >"$dir/qemu.log" 2>&1 &
qemu=$!
trap 'kill -KILL "$qemu" 2>/dev/null || true; wait "$qemu" || true' EXIT

waiting() {
	kill -0 "$qemu" || { cat "$dir/qemu.log" >&2; exit 1; }
	[ "$SECONDS" -lt 600 ] || { tail -n 20 "$dir/serial.log" >&2; exit 1; }
}

# QEMU's forwarding port accepts before the guest lives, and a connection that
# was made too early hangs: a new one every 0.2 s, later every 0.9 s at most
# (each costs sshd a process), that waits 10 s for a banner.
mkfifo "$dir/banner"
exec 3<>"$dir/banner"
until read -r -t "0.$((SECONDS < 28 ? 2 + SECONDS / 4 : 9))" -u 3 _; do
	waiting
	# shellcheck disable=SC2016 # the inner shell's
	timeout 10 bash -c 'exec 4<>"/dev/tcp/127.0.0.1/$0" && read -r -n 4 -u 4 && echo >&3' "$port" 2>/dev/null &
done

until ssh -n -F none -p "$port" -i "$dir/key" -o IdentitiesOnly=yes -o BatchMode=yes -o LogLevel=ERROR \
	-o StrictHostKeyChecking=yes -o UserKnownHostsFile="$dir/known_hosts" root@127.0.0.1 true; do
	waiting
	sleep 0.1
done
echo ready
read -r _ || true
