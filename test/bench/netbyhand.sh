#!/usr/bin/env bash
# netbyhand.sh TABLE UID GATEWAY MAC ALIAS ADDRESS RESOLVER SUBNET PORT UPLINK MARK: what
# banger-root makes for routed VMs with NAT, by hand and in as few processes as can be.
# A line of stdin is a tap: NAME|MAC|ALIAS|ADDRESS.
set -euo pipefail
table=$1 uid=$2 gateway=$3 mac=$4 alias=$5 address=$6 resolver=$7 subnet=$8 port=$9 uplink=${10} mark=${11}
quiet='net.ipv6.conf.%s.disable_ipv6=1\nnet.ipv6.conf.%s.accept_ra=0\n'
guarded="$quiet"'net.ipv4.conf.%s.accept_local=0\nnet.ipv4.conf.%s.route_localnet=0\nnet.ipv4.conf.%s.accept_redirects=0\nnet.ipv4.conf.%s.accept_source_route=0\nnet.ipv4.conf.%s.proxy_arp=0\nnet.ipv4.conf.%s.rp_filter=1\nnet.ipv4.conf.%s.forwarding=1\n'
links='' up='' sysctls='' names='' leases='' addresses=''
while IFS='|' read -r name hw what to; do
	links+="tuntap add dev $name mode tap user $uid"$'\n'"link set dev $name address $hw alias \"$what\""$'\n'
	up+="link set dev $name up"$'\n'"route add $to/32 dev $name src $address scope link proto static"$'\n'
	# shellcheck disable=SC2059 # the format is ours
	printf -v s "$guarded" "$name" "$name" "$name" "$name" "$name" "$name" "$name" "$name" "$name"
	sysctls+=$s names+="\"$name\"," leases+="\"$name\" . $to," addresses+="$to,"
done

nft -f - <<NFT
table inet $table {
	set taps { type ifname; elements = { ${names%,} }; }
	set open { type ifname; elements = { ${names%,} }; }
	set leases { type ifname . ipv4_addr; elements = { ${leases%,} }; }
	set nat { type ipv4_addr; elements = { ${addresses%,} }; }
	set uplinks { type iface_index; elements = { "$uplink" }; }
	set opened { type iface_index; elements = { "$uplink" }; }
	chain prerouting {
		type filter hook prerouting priority raw; policy accept;
		iifname @taps meta nfproto != ipv4 drop
		iifname @taps iifname . ip saddr != @leases drop
		iifname @taps ip daddr 169.254.0.0/16 drop
		iifname @taps ip daddr 168.63.129.16 drop
		iifname @taps ip daddr 100.100.100.200 drop
	}
	chain names {
		type nat hook prerouting priority dstnat; policy accept;
		iifname @taps ip daddr $address-$resolver udp dport 53 dnat ip to $address:$port
		iifname @taps ip daddr $address-$resolver tcp dport 53 dnat ip to $address:$port
	}
	chain input {
		type filter hook input priority filter; policy accept;
		iifname @taps ct state established,related accept
		iifname @taps ip daddr $address icmp type echo-request accept
		iifname @taps ip daddr $address udp dport $port accept
		iifname @taps ip daddr $address tcp dport $port accept
		iifname @taps drop
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname @open oifname @open accept
		iifname @taps ip daddr $subnet drop
		iifname @taps oif @uplinks tcp sport < 1024 drop
		iifname @taps oif @uplinks udp sport < 1024 udp sport != 123 udp sport != 500 drop
		iifname @taps ip saddr @nat oif @uplinks accept
		iif @uplinks oifname @taps ip saddr $subnet drop
		iif @uplinks oifname @taps ip daddr @nat ct state established,related accept
		iifname @taps drop
		oifname @taps drop
		meta nfproto ipv4 iif @opened ct state != { established, related } drop
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr @nat oif @uplinks masquerade
	}
}
NFT
for kind in dummy ifb bridge; do
	if ip link add "$gateway" address "$mac" type "$kind" 2>/dev/null; then break; fi
done
ip -batch - <<IP
link set dev $gateway alias "$alias"
link property add dev $uplink altname $mark
$links
IP
# shellcheck disable=SC2059
printf "$quiet$sysctls" "$gateway" "$gateway" | sysctl -q -p -
ip -batch - <<IP
address add $address/32 dev $gateway
link set dev $gateway up
$up
IP
sysctl -q "net.ipv4.conf.$uplink.forwarding=1"
