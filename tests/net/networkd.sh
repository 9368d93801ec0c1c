#!/bin/bash
# systemd-networkd as a client of the address services, and beside us on the host, where it manages every link it may.
. "${SOURCE:?}/tests/net/lib.sh" || exit 1
requires cmd:busybox file:/lib/systemd/systemd-networkd
outside
netns c1 c2
cat >"$T/s.json" <<'J'
{"networks": [{"id": "n1", "domain": "lan.example"}],
 "portgroups": [{"id": "p1", "network": "n1", "subnet4": "10.0.0.0/24", "subnet6": "fd00:1::/64", "mtu": 1400}],
 "nics": [{"id": "a", "portgroup": "p1", "netns": "c1", "dhcp": true, "hostname": "alpha", "addresses": ["10.0.0.10", "fd00:1::10"]},
	{"id": "b", "portgroup": "p1", "netns": "c2", "addresses": ["10.0.0.11", "fd00:1::11"]}]}
J
bg strata-net --state-dir "$S" --every 0 run "$T/s.json"
until_true ip -n c1 link show eth0
# networkd NAME FOLDER [ip netns exec NS]: with what is in the folder as its configuration; its log is $T/NAME.log
networkd() {
	local name=$1 conf=$2
	shift 2
	"$@" unshare -m --propagation private bash -c '
		mount -t tmpfs tmpfs /run
		mount -t tmpfs tmpfs /etc/systemd/network 2>/dev/null
		mkdir -p /run/systemd/network /run/systemd/netif/{links,leases,lldp}
		chmod -R a+rwX /run/systemd/netif
		cp "$0"/* /run/systemd/network/
		echo strata >/run/systemd/container # no udev to wait for
		mount -o remount,ro /sys 2>/dev/null || mount -t sysfs -o ro sysfs /sys
		SYSTEMD_LOG_LEVEL=debug exec /lib/systemd/systemd-networkd' "$conf" >"$T/$name.log" 2>&1 &
	pids+=($!)
}
mkdir "$T/client" "$T/host"
printf '[Match]\nName=eth0\n[Network]\nDHCP=yes\nIPv6AcceptRA=yes\n' >"$T/client/a.network"
networkd client "$T/client" ip netns exec c1
t "DHCPv4 lease" until_true sh -c "ip -n c1 -4 -o addr show eth0 | grep -q 'inet 10.0.0.10/24.*dynamic'"
t "DHCPv6 lease" until_true sh -c "ip -n c1 -6 -o addr show eth0 | grep -q 'inet6 fd00:1::10/128.*dynamic'"
t "default route by DHCP" until_true sh -c "ip -n c1 route | grep -q 'default via 10.0.0.1 .*dhcp'"
t "default route by router advertisement" until_true sh -c "ip -n c1 -6 route | grep -q 'default via fe80::.*proto ra'"
t "prefix by router advertisement" until_true sh -c "ip -n c1 -6 route | grep -q 'fd00:1::/64 .*proto ra'"
t "route to the metadata" until_true sh -c "ip -n c1 route | grep -q '169.254.169.254 via 10.0.0.1'"
t "the outside by IPv4" until_true png c1 192.0.2.2
t "the outside by IPv6" until_true png6 c1 2001:db8::2
t_fails "not one address collided" grep -i 'duplicate\|conflict' "$T/client.log"

# On the host, told to manage everything.
printf '[Match]\nName=*\n[Network]\nDHCP=no\nLinkLocalAddressing=no\nAddress=192.0.2.1/24\nAddress=2001:db8::1/64\n' >"$T/host/99-all.network"
cp "$SOURCE/packaging/systemd/10-strata.network" "$T/host/"
sv=$(ip -o link show type veth | grep -o 'sv[0-9a-f]*' | head -1)
before=$(ip -o addr show "$sv" | sort)
networkd host "$T/host"
t "networkd manages the host's link" until_true grep -q 'e0: State changed: .* -> configuring' "$T/host.log"
t "and has looked at ours" until_true grep -q "$sv: .*[Uu]nmanaged" "$T/host.log"
t_eq "whose addresses are as they were" "$(ip -o addr show "$sv" | sort)" "$before"
t_fails "it was not touched" grep -q "$sv: .*configuring" "$T/host.log"
t "traffic goes on" png c2 192.0.2.2
sn clear
t "clear" until_true sh -c '! ip -o link | grep -q sv'
done_testing
