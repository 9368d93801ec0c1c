#!/bin/bash
# Bad input and hosts that lack something: one clear line, nothing half-made.
. "${SOURCE:?}/tests/net/lib.sh" || exit 1
requires cmd:python3
netns c1
refused() { # NAME TEXT-IN-MESSAGE JSON
	echo "$3" >"$T/bad.json"
	sn apply "$T/bad.json" 2>"$T/err"
	t_eq "$1: refused" $? 1
	t "$1: says '$2'" grep -q -- "$2" "$T/err"
	t_eq "$1: in one line" "$(wc -l <"$T/err")" 1
}
net='"networks": [{"id": "n1"}]'
pg='"portgroups": [{"id": "p1", "network": "n1", "subnet4": "10.0.0.0/24"}]'
refused "missing uplink" "no such link" "{$net, \"portgroups\": [{\"id\": \"p\", \"network\": \"n1\", \"uplink\": \"nope0\", \"vlan\": 5}]}"
t "missing uplink: no bridge is left" sh -c '! for n in $(ip netns | cut -d" " -f1 | grep strata-); do ip -n $n link show type bridge; done | grep -q sb'
ip link add u0 type veth peer name u1
ip link set u0 up
if ip link add link u0 name probe type vlan id 9 2>/dev/null; then
	ip link del probe
	echo "{$net, \"portgroups\": [{\"id\": \"p\", \"network\": \"n1\", \"uplink\": \"u0\", \"vlan\": 5}]}" >"$T/v.json"
	t "VLAN uplink" sn apply "$T/v.json"
else
	refused "kernel without VLANs" "no 802.1Q" "{$net, \"portgroups\": [{\"id\": \"p\", \"network\": \"n1\", \"uplink\": \"u0\", \"vlan\": 5}]}"
fi
refused "MTU above the uplink's" "above the 1500" "{$net, \"portgroups\": [{\"id\": \"p\", \"network\": \"n1\", \"uplink\": \"u0\", \"vlan\": 5, \"mtu\": 9000}]}"
refused "VLAN out of range" "from 1 to 4094" "{$net, \"portgroups\": [{\"id\": \"p\", \"network\": \"n1\", \"uplink\": \"u0\", \"vlan\": 4095}]}"
refused "no such namespace" "network namespace\|/run/netns/nowhere" "{$net, $pg, \"nics\": [{\"id\": \"a\", \"portgroup\": \"p1\", \"netns\": \"nowhere\"}]}"
N=$(ip netns | awk '/^strata-/ { print $1 }')
t_eq "no such namespace: no port is left" "$(ip -n "$N" -o link | grep -c sn)" 0
t_eq "no such namespace: no rule is left" "$(ip netns exec "$N" nft list table bridge strata | grep -c '"sn[0-9a-f]')" 0
ip -n c1 link add eth0 type bridge
refused "name taken inside" "taken inside" "{$net, $pg, \"nics\": [{\"id\": \"a\", \"portgroup\": \"p1\", \"netns\": \"c1\"}]}"
t_eq "name taken inside: no port is left" "$(ip -n "$N" -o link | grep -c sn)" 0
# A foreign bridge under the name of ours.
echo "{$net, $pg}" >"$T/ok.json"
t "apply" sn apply "$T/ok.json"
B=$(ip -n "$N" -o link show type bridge | grep -o 'sb[0-9a-f]*' | head -1)
ip -n "$N" link set "$B" alias "somebody else's"
refused "foreign bridge of the same name" "not ours" "{$net, $pg}"
t "foreign bridge: it stays" ip -n "$N" link show "$B"
ip -n "$N" link set "$B" alias "strata group p1"
refused "unknown field" "did you mean 'mode'" '{"networks": [{"id": "n1", "mod": "nat"}]}'
refused "not JSON" "column" '{"networks": ['
sn clear
ip link del u0
t "nothing is left" nothing_left
done_testing
