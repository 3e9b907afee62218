#!/usr/bin/env bash
# netbyhand.sh TABLE UID GATEWAY MAC ALIAS ADDRESS: what banger-root makes for
# routed VMs, by hand and in as few processes as can be. A line of stdin is a
# tap: NAME|MAC|ALIAS|ADDRESS.
set -euo pipefail
table=$1 uid=$2 gateway=$3 mac=$4 alias=$5 address=$6
quiet='net.ipv6.conf.%s.disable_ipv6=1\nnet.ipv6.conf.%s.accept_ra=0\n'
guarded="$quiet"'net.ipv4.conf.%s.accept_local=0\nnet.ipv4.conf.%s.route_localnet=0\nnet.ipv4.conf.%s.accept_redirects=0\nnet.ipv4.conf.%s.accept_source_route=0\nnet.ipv4.conf.%s.proxy_arp=0\nnet.ipv4.conf.%s.rp_filter=1\nnet.ipv4.conf.%s.forwarding=1\n'
links='' up='' sysctls='' names='' leases=''
while IFS='|' read -r name hw what to; do
	links+="tuntap add dev $name mode tap user $uid"$'\n'"link set dev $name address $hw alias \"$what\""$'\n'
	up+="link set dev $name up"$'\n'"route add $to/32 dev $name src $address scope link proto static"$'\n'
	# shellcheck disable=SC2059 # the format is ours
	printf -v s "$guarded" "$name" "$name" "$name" "$name" "$name" "$name" "$name" "$name" "$name"
	sysctls+=$s names+="\"$name\"," leases+="\"$name\" . $to,"
done

nft -f - <<NFT
table inet $table {
	set taps { type ifname; elements = { ${names%,} }; }
	set open { type ifname; elements = { ${names%,} }; }
	set leases { type ifname . ipv4_addr; elements = { ${leases%,} }; }
	chain prerouting {
		type filter hook prerouting priority raw; policy accept;
		iifname @taps meta nfproto != ipv4 drop
		iifname @taps iifname . ip saddr != @leases drop
	}
	chain input {
		type filter hook input priority filter; policy accept;
		iifname @taps ct state established,related accept
		iifname @taps ip daddr $address icmp type echo-request accept
		iifname @taps drop
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname @open oifname @open accept
		iifname @taps drop
		oifname @taps drop
	}
}
NFT
for kind in dummy ifb bridge; do
	if ip link add "$gateway" address "$mac" type "$kind" 2>/dev/null; then break; fi
done
ip -batch - <<IP
link set dev $gateway alias "$alias"
$links
IP
# shellcheck disable=SC2059
printf "$quiet$sysctls" "$gateway" "$gateway" | sysctl -q -p -
ip -batch - <<IP
address add $address/32 dev $gateway
link set dev $gateway up
$up
IP
