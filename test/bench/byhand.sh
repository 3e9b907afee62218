#!/usr/bin/env bash
# byhand.sh DIR BASE SIZE WORK PORT UP PART… -- QEMU ARGUMENT…: one VM by hand.
# Makes DIR/disk.qcow2 over BASE, joins the PARTs into DIR/initrd, starts QEMU
# and polls PORT until ssh(1) has run `true`; then it says "ready" and keeps the
# VM until its stdin ends. Unless WORK is "", DIR/work.img is an ext4 of that
# size. UP leads to a port that nobody serves in the guest. DIR holds known_hosts
# and the user's key.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin # mke2fs, for an ordinary user
dir=$1 base=$2 size=$3 work=$4 port=$5 up=$6
shift 6
parts=()
while [ "$1" != -- ]; do
	parts+=("$1")
	shift
done
shift

qemu-img create -q -f qcow2 -F raw -b "$base" "$dir/disk.qcow2" "$size"
if [ -n "$work" ]; then
	truncate -s "$work" "$dir/work.img"
	mke2fs -q -F -t ext4 -U 0b0b0b0b-0b0b-4b0b-8b0b-0b0b0b0b0b0b -E lazy_itable_init=1,lazy_journal_init=1,nodiscard "$dir/work.img"
fi
cat "${parts[@]}" >"$dir/initrd"
"$@" </dev/null >"$dir/qemu.log" 2>&1 &
qemu=$!
trap 'kill -KILL "$qemu" 2>/dev/null || true; wait "$qemu" || true' EXIT

waiting() {
	kill -0 "$qemu" || { cat "$dir/qemu.log" >&2; exit 1; }
	[ "$SECONDS" -lt 600 ] || { tail -n 20 "$dir/serial.log" "$dir/ssh.log" >&2; exit 1; }
}

# QEMU's forwarding ports accept before the guest lives, and a connection that was
# made too early hangs. So the guest's network is awaited first, at a port that
# nobody serves in it: its kernel refuses, which costs it next to nothing, while a
# connection that reaches sshd costs a process. From then on a connection is
# refused at once until the server listens: ssh(1) itself tries, one at a time.
refused() { # within 0.1 s
	local status=0
	{ exec 4<>"/dev/tcp/127.0.0.1/$up"; } 2>/dev/null || { sleep 0.1; return 1; } # QEMU is not there yet
	read -r -n 1 -t 0.1 -u 4 _ 2>/dev/null || status=$?
	exec 4>&-
	[ "$status" = 1 ] # end of file; more than 128: nothing came
}
until refused; do waiting; done

until ssh -n -F none -p "$port" -i "$dir/key" -o IdentitiesOnly=yes -o BatchMode=yes -o LogLevel=ERROR \
	-o StrictHostKeyChecking=yes -o UserKnownHostsFile="$dir/known_hosts" root@127.0.0.1 true 2>"$dir/ssh.log"; do
	waiting
	sleep 0.1
done
echo ready
read -r _ || true
