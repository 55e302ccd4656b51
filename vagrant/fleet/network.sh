#!/bin/bash
# deckwire-fleet up|down: the deckies' network.
#
#   namespace attacker: uplink0 ──veth── fleet0 ══macvlan══ decky0 of web-01, shell-01, mail-01
set -euo pipefail

down() {
	local name
	ip link delete fleet0 2>/dev/null || true
	for name in attacker web-01 shell-01 mail-01; do
		ip netns delete "$name" 2>/dev/null || true
	done
}

# address NAMESPACE INTERFACE NUMBER
address() {
	# smtpd cannot bind to a link-local address that is still being checked.
	ip netns exec "$1" sysctl -qw "net.ipv6.conf.$2.accept_dad=0"
	ip -n "$1" link set lo up
	ip -n "$1" link set "$2" up
	ip -n "$1" address add "192.0.2.$3/24" dev "$2"
	ip -n "$1" address add "2001:db8::$3/64" dev "$2" nodad
}

up() {
	local number=10 name
	ip netns add attacker
	ip link add fleet0 type veth peer name uplink0 netns attacker
	ip link set fleet0 up
	address attacker uplink0 66
	for name in web-01 shell-01 mail-01; do
		ip netns add "$name"
		# Not eth0: before Linux 6.13 a name must be free in the namespace of the parent too.
		ip link add link fleet0 name decky0 netns "$name" type macvlan mode bridge
		address "$name" decky0 $((++number))
	done
}

case ${1:-} in
up) down && up ;;
down) down ;;
*) echo "usage: deckwire-fleet up|down" >&2 && exit 2 ;;
esac
