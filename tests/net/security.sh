#!/bin/bash
# Anti-spoofing of every kind, counted; isolation; group rules while traffic flows; two tenants with the same addresses.
. "${SOURCE:?}/tests/net/lib.sh" || exit 1
requires cmd:tshark cmd:busybox cmd:python3 cmd:curl
outside
netns c1 c2 c3 c4 d1 d2 e1 e2
mkdir -p /var/empty
cat >"$T/s.json" <<'J'
{"networks": [{"id": "n1", "project": "red"}, {"id": "n2", "project": "blue"}],
 "portgroups": [{"id": "p1", "network": "n1", "subnet4": "10.0.0.0/24", "subnet6": "fd00:1::/64"},
	{"id": "q1", "network": "n2", "subnet4": "10.0.0.0/24", "subnet6": "fd00:1::/64"},
	{"id": "alone", "network": "n1", "subnet4": "10.1.0.0/24", "isolate": true}],
 "groups": [{"id": "open", "rules": [{"dir": "in"}]},
	{"id": "db", "rules": [{"proto": "tcp", "ports": 5432, "group": "app"}, {"proto": "tcp", "ports": "7000-7010", "cidr": "10.0.0.0/24"},
	  {"action": "drop", "proto": "tcp", "ports": 7005}]},
	{"id": "app", "rules": [{"dir": "out", "proto": "tcp", "ports": 5432}, {"dir": "out", "proto": "icmp"}]}],
 "nics": [{"id": "a", "portgroup": "p1", "netns": "c1", "mac": "52:54:00:00:00:0a", "addresses": ["10.0.0.10", "fd00:1::10"]},
	{"id": "b", "portgroup": "p1", "netns": "c2", "mac": "52:54:00:00:00:0b", "addresses": ["10.0.0.11", "fd00:1::11"]},
	{"id": "db", "portgroup": "p1", "netns": "c3", "addresses": ["10.0.0.12"], "groups": ["db"]},
	{"id": "app", "portgroup": "p1", "netns": "c4", "addresses": ["10.0.0.13"], "groups": ["app"]},
	{"id": "x", "portgroup": "q1", "netns": "d1", "mac": "52:54:00:00:00:0a", "addresses": ["10.0.0.10", "fd00:1::10"]},
	{"id": "y", "portgroup": "q1", "netns": "d2", "mac": "52:54:00:00:00:0b", "addresses": ["10.0.0.11", "fd00:1::11"]},
	{"id": "i", "portgroup": "alone", "netns": "e1", "addresses": ["10.1.0.5"]},
	{"id": "j", "portgroup": "alone", "netns": "e2", "addresses": ["10.1.0.6"]}]}
J
sn apply "$T/s.json" || exit 1
for n in $(ip netns | awk '/^strata-/ { print $1 }'); do
	ip -n "$n" link show | grep -q sb && [ "$(ip -n "$n" -o link show type bridge | wc -l)" = 2 ] && N=$n
done
drops() { in_ns "$N" nft -j list counters table bridge strata | python3 -c 'import json,sys; print(sum(c["counter"]["packets"] for c in json.load(sys.stdin)["nftables"] if "counter" in c and c["counter"]["name"] not in ("c_in","c_out")))'; }

# Every frame that a must not send: b does not see it, the gateway does not, and it is counted.
in_ns c2 tcpdump -U --immediate-mode -Z root -ni eth0 -w "$T/b.pcap" 'ether src 52:54:00:00:00:0a or ether src 52:54:00:00:00:0b' 2>"$T/b.err" &
TB=$!
pids+=($TB)
until_true grep -q listening "$T/b.err"
spoof() { in_ns c1 python3 "$SOURCE/tests/net/spoof.py" eth0 52:54:00:00:00:0a 10.0.0.10 fd00:1::10 52:54:00:00:00:0b 10.0.0.11 fd00:1::11 "$1"; }
for kind in mac ip ip-gateway ip6 ip6-lla arp-ip arp-mac nd nd-dad nd-fragment ra ra-behind-header redirect dhcp-server dhcp-chaddr \
	dhcp6-server vlan other; do
	before=$(drops)
	spoof $kind
	t_eq "spoof: $kind is dropped and counted" "$(($(drops) - before))" 3
done
before=$(drops)
spoof good
t_eq "an honest frame is not" "$(($(drops) - before))" 0
sleep 1
kill $TB
wait $TB 2>/dev/null
t_eq "the honest one arrived" "$(tshark -r "$T/b.pcap" -Y 'udp.port == 4242 && !icmp' 2>/dev/null | wc -l)" 3
t_eq "none of the others did" "$(tshark -r "$T/b.pcap" -Y '(udp.port == 1 && !icmp && !icmpv6) || lldp || icmpv6.type == 134 || icmpv6.type == 137 || dhcp || dhcpv6 || vlan || (arp && eth.src == 52:54:00:00:00:0a && (arp.src.proto_ipv4 == 10.0.0.11 || arp.src.hw_mac == 52:54:00:00:00:0b)) || icmpv6.nd.na.target_address == fd00:1::11 && eth.src == 52:54:00:00:00:0a' 2>/dev/null | wc -l)" 0
t_eq "the NIC's own count" "$(field "$T/s.json" '[n for n in d["nics"] if n["id"] == "a"][0]["spoofed"] >= 50')" True

# Groups
for p in 5432 7000 7005 7011; do web c3 $p; done
t "group as peer: a member" get c4 http://10.0.0.12:5432/
t_fails "group as peer: not a member" get c1 http://10.0.0.12:5432/ 1
t "range and CIDR" get c1 http://10.0.0.12:7000/
t_fails "drop wins over accept" get c1 http://10.0.0.12:7005/ 1
t_fails "outside of the range" get c1 http://10.0.0.12:7011/ 1
t_fails "out rules: another port is not let out" get c4 http://10.0.0.12:7000/ 1
t "out rules: ICMP to the gateway" png c4 10.0.0.1
sed 's/"ports": 5432, "group": "app"/"ports": 5432/' "$T/s.json" >"$T/s2.json"
cp "$T/s.json" "$T/live.json"
bg strata-net --state-dir "$S" --every 0 run "$T/live.json"
D=$!
until_true sh -c "ss -lunp 2>/dev/null; ip netns exec $N ss -lun | grep -q ':53 '"
in_ns c1 busybox ping -i 0.05 -c 100 -q 10.0.0.11 >"$T/ping" 2>&1 &
P=$!
cp "$T/s2.json" "$T/live.json"
kill -HUP $D
t "a rule changes while it runs" until_true get c1 http://10.0.0.12:5432/
cp "$T/s.json" "$T/live.json"
kill -HUP $D
refused() { ! get "$@"; }
t "and back" until_true refused c1 http://10.0.0.12:5432/ 1
wait $P
t_eq "others lose nothing meanwhile" "$(grep -o '[0-9]*% packet loss' "$T/ping")" "0% packet loss"
kill $D
wait $D 2>/dev/null

# Isolation of ports, and no way between port groups unless asked for
t_fails "isolated ports do not reach each other" png e1 10.1.0.6
t "they reach the router" png e1 10.1.0.1
t "and the outside" png e1 192.0.2.2
t_fails "port groups of one network do not meet" png e1 10.0.0.10

# Two tenants, same subnet, same MACs, same addresses
for n in c1 c2 d1 d2; do
	in_ns $n tcpdump -U --immediate-mode -Z root -ni eth0 -w "$T/$n.pcap" icmp or arp or udp or icmp6 2>"$T/$n.err" &
	pids+=($!)
	eval "t_$n=$!"
	until_true grep -q listening "$T/$n.err"
done
in_ns c1 busybox ping -c 3 -s 101 -W 1 10.0.0.11 >/dev/null 2>&1 &
in_ns d1 busybox ping -c 3 -s 202 -W 1 10.0.0.11 >/dev/null 2>&1
in_ns c1 busybox ping6 -c 2 -s 111 -W 1 fd00:1::11 >/dev/null 2>&1
in_ns d1 busybox ping6 -c 2 -s 222 -W 1 fd00:1::11 >/dev/null 2>&1
t "red to the outside" png c1 192.0.2.2
t "blue to the outside, from the same address" png d1 192.0.2.2
sleep 1
for n in c1 c2 d1 d2; do eval "kill \$t_$n; wait \$t_$n" 2>/dev/null; done
count() { tshark -r "$T/$1.pcap" -Y "$2" 2>/dev/null | wc -l; }
t_eq "red: its own three" "$(count c2 'icmp.type == 8 && data.len == 93 || icmp.type == 8 && frame.len == 143')" 3
t_eq "red: not one of blue's" "$(($(count c1 'frame.len == 244') + $(count c2 'frame.len == 244') + $(count c2 'frame.len == 284')))" 0
t_eq "blue: its own three" "$(count d2 'icmp.type == 8 && frame.len == 244')" 3
t_eq "blue: not one of red's" "$(($(count d1 'frame.len == 143') + $(count d2 'frame.len == 143') + $(count d2 'frame.len == 173')))" 0
sn clear
t "nothing is left" nothing_left
done_testing
