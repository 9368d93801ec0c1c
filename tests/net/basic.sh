#!/bin/bash
# Networks, port groups and NICs on the bridge driver: reach, modes, forwards, groups, repair, restart, removal.
. "${SOURCE:?}/tests/net/lib.sh" || exit 1
requires cmd:curl cmd:busybox cmd:python3
outside
netns c1 c2 c3 c4
mkdir -p /var/empty
cat >"$T/s.json" <<'J'
{"networks": [{"id": "n1"}, {"id": "lonely", "mode": "isolated"}],
 "portgroups": [{"id": "p1", "network": "n1", "subnet4": "10.0.0.0/24", "subnet6": "fd00:1::/64"},
	{"id": "p2", "network": "lonely", "subnet4": "10.0.0.0/24", "mtu": 1400}],
 "groups": [{"id": "web", "rules": [{"proto": "tcp", "ports": 80}, {"proto": "icmp"}]}],
 "nics": [{"id": "a", "portgroup": "p1", "netns": "c1"}, {"id": "b", "portgroup": "p1", "netns": "c2"},
	{"id": "c", "portgroup": "p1", "netns": "c3", "groups": ["web"]},
	{"id": "d", "portgroup": "p2", "netns": "c4"},
	{"id": "t", "portgroup": "p2", "kind": "tap", "queues": 2}],
 "forwards": [{"id": "f", "nic": "a", "host_port": 8080, "port": 80}]}
J
t "apply" sn apply "$T/s.json"
N=$(net_of "$T/s.json")
A=$(addr4 c1) B=$(addr4 c2) C=$(addr4 c3)
t "a reaches b" png c1 "$B"
t "a reaches b by IPv6" png6 c1 "$(addr6 c2)"
t "a reaches the gateway" png c1 10.0.0.1
t "a reaches the outside" png c1 192.0.2.2
t "a reaches the outside by IPv6" png6 c1 2001:db8::2 4
t_fails "the isolated network does not" png c4 192.0.2.2
t_fails "the host's own services are out of reach" get c1 http://192.0.2.1:8081/ 1
web c1 80
web c3 80
web c3 81
t "forward from outside" get ext http://192.0.2.1:8080/
t "forward from the host itself" curl -s -m 2 -o /dev/null http://192.0.2.1:8080/
t "forward on 127.0.0.1" curl -s -m 2 -o /dev/null http://127.0.0.1:8080/
t "forward from inside (hairpin)" get c1 http://192.0.2.1:8080/
t "group: port 80 is open" get c2 "http://$C:80/"
t_fails "group: port 81 is not" get c2 "http://$C:81/" 1
t "group: what the member starts is answered" get c3 "http://$A:80/"
t_eq "the drop is counted" "$(field "$T/s.json" 'd["networks"][0]["drops"]["group_in"] + d["networks"][1]["drops"]["group_in"] > 0')" True
L=$(net_of "$T/s.json" 1)
[ "$L" = "$N" ] && L=$(net_of "$T/s.json" 0)
for n in $(ip netns | awk '/^strata-/ { print $1 }'); do
	ip -n "$n" -d link show type bridge | grep -q 'mtu 1400' && L=$n || N=$n
done
t_eq "tap: queues" "$(ip -n "$L" -d link show type tun | grep -o 'multi_queue numqueues [0-9]*\|multi_queue' | head -1 | cut -c1-11)" multi_queue
t_eq "MTU inside" "$(ip -n c4 -o link show eth0 | grep -o 'mtu [0-9]*')" "mtu 1400"

# A second run, as a daemon's restart is one, changes nothing and drops nothing.
in_ns c1 busybox ping -i 0.02 -c 100 -q "$C" >"$T/ping" 2>&1 &
p=$!
for _ in 1 2 3 4 5; do sn apply "$T/s.json"; sleep 0.2; done
wait $p
t_eq "no packet lost over five restarts" "$(grep -o '[0-9]*% packet loss' "$T/ping")" "0% packet loss"
t_eq "nothing to mend" "$(sn reconcile "$T/s.json")" 0

# Broken in every way, then mended.
P=$(ip -n "$N" -o link show type veth | grep -o 'sn[0-9a-f]*' | head -1)
ip -n "$N" link set "$P" down nomaster
in_ns "$N" nft flush ruleset
ip -n "$N" addr flush dev "$(ip -n "$N" -o link show type bridge | grep -o 'sb[0-9a-f]*' | head -1)" scope global
t_fails "broken: no way out" png c1 192.0.2.2
t "mend" sn apply "$T/s.json"
t "mended: way out" png c1 192.0.2.2
t "mended: neighbour" png c1 "$B"
t "mended: b" png c2 192.0.2.2

# Foreign things stay.
ip -n "$N" link add foreign0 type bridge
nft add table inet other
t "apply beside foreign things" sn apply "$T/s.json"
t "a foreign link stays" ip -n "$N" link show foreign0
t "a foreign table stays" nft list table inet other
nft delete table inet other
ip -n "$N" link del foreign0

t "clear" sn clear
t "nothing is left" nothing_left
t_fails "nothing inside the containers" ip -n c1 link show eth0

# A namespace of somebody else under our name is refused.
ip netns add "$N"
ip -n "$N" link add dummy0 type bridge
t_fails "foreign namespace of the same name" sn apply "$T/s.json"
sn apply "$T/s.json" 2>"$T/err"
t "and said so" grep -q "is there already and not ours" "$T/err"
ip netns del "$N"
sn clear
done_testing
