#!/bin/bash
# Ways between networks: routed mode, routes between port groups, isolation, hairpin, forwards of both families; taps with
# a guest's traffic; addresses of a router that somebody took away; counters over a restart.
. "${SOURCE:?}/tests/net/lib.sh" || exit 1
requires cmd:busybox cmd:python3 cmd:curl cmd:dhclient cmd:tcpdump file:/dev/net/tun
outside
netns r1 r2 b1 b2 i1 i2 g1 n1 n2
mkdir -p /var/empty
cat >"$T/s.json" <<'J'
{"networks": [{"id": "routed", "mode": "routed"}, {"id": "routed2", "mode": "routed"}, {"id": "nat", "route_between": true},
	{"id": "closed", "mode": "isolated"}],
 "portgroups": [{"id": "pr", "network": "routed", "subnet4": "10.20.0.0/24", "subnet6": "fd00:20::/64"},
	{"id": "pr2", "network": "routed2", "subnet4": "10.21.0.0/24", "subnet6": "fd00:21::/64"},
	{"id": "na", "network": "nat", "subnet4": "10.30.0.0/24", "subnet6": "fd00:30::/64"},
	{"id": "nb", "network": "nat", "subnet4": "10.31.0.0/24", "subnet6": "fd00:31::/64"},
	{"id": "pi", "network": "closed", "subnet4": "10.40.0.0/24", "subnet6": "fd00:40::/64", "isolate": true}],
 "groups": [{"id": "shut", "rules": [{"proto": "tcp", "ports": 1}]}],
 "nics": [{"id": "r1", "portgroup": "pr", "netns": "r1", "addresses": ["10.20.0.10", "fd00:20::10"]},
	{"id": "r2", "portgroup": "pr2", "netns": "r2", "addresses": ["10.21.0.10", "fd00:21::10"]},
	{"id": "n1", "portgroup": "na", "netns": "n1", "addresses": ["10.30.0.10", "fd00:30::10"]},
	{"id": "n2", "portgroup": "nb", "netns": "n2", "addresses": ["10.31.0.10", "fd00:31::10"]},
	{"id": "tap", "portgroup": "na", "kind": "tap", "queues": 2, "addresses": ["10.30.0.20", "fd00:30::20"], "hostname": "guest"},
	{"id": "i1", "portgroup": "pi", "netns": "i1", "addresses": ["10.40.0.10", "fd00:40::10"]},
	{"id": "i2", "portgroup": "pi", "netns": "i2", "addresses": ["10.40.0.11", "fd00:40::11"], "groups": ["shut"]}],
 "forwards": [{"id": "f1", "nic": "n1", "host_port": 8080, "port": 80}, {"id": "f2", "nic": "n2", "host_port": 8081, "port": 80},
	{"id": "f3", "nic": "n1", "proto": "udp", "host_port": 5353, "port": 53}]}
J
bg strata-net --state-dir "$S" --every 0 run "$T/s.json"
D=$!
until_true png r1 10.20.0.1 || exit 1
NAT=$(netns_of 10.30.0.1) CLOSED=$(netns_of 10.40.0.1)

# Routed: the outside knows the way back, and sees the address itself.
in_ns ext tcpdump -U -Z root -c 1 -ni e1 'icmp[icmptype] == 8' >"$T/seen" 2>"$T/seen.err" &
p=$!
pids+=($p)
until_true grep -q listening "$T/seen.err"
until_true png r1 192.0.2.2
wait $p
t "routed: the outside sees the instance's own address" grep -q '10.20.0.10 > 192.0.2.2' "$T/seen"
t "routed: from outside to the instance" png ext 10.20.0.10
ip -n ext -6 route add default via 2001:db8::1
t "routed: the same by IPv6" png6 ext fd00:20::10 3
t "routed: networks reach each other" png r1 10.21.0.10
t "routed: and by IPv6" png6 r1 fd00:21::10 3
t_fails "routed: a NAT network's instance cannot be reached" png r1 10.30.0.10
t "route_between: the other port group" png n1 10.31.0.10
t "route_between: by IPv6" png6 n1 fd00:31::10 3
t_fails "an isolated network's instance reaches nothing outside" png i1 192.0.2.2

# Isolation of ports, both families and broadcasts.
t_fails "isolated ports: IPv4" png i1 10.40.0.11
t_fails "isolated ports: IPv6" png6 i1 fd00:40::11
t "isolated ports: the router is there" png i1 10.40.0.1

# Hairpin and forwards
web n2 80
web n1 80 ::
t "forward from outside" get ext http://192.0.2.1:8080/
t "forward from outside by IPv6" get ext 'http://[2001:db8::1]:8080/'
t "hairpin: to itself through the host's port" get n1 http://192.0.2.1:8080/
t "hairpin: to the neighbour through the host's port" get n1 http://192.0.2.1:8081/
t "from another network through the host's port" get r1 http://192.0.2.1:8081/
cat >"$T/echo.py" <<'P'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 53)); print("up", flush=True)
while True:
    d, a = s.recvfrom(2000); s.sendto(d.upper(), a)
P
in_ns n1 python3 "$T/echo.py" >"$T/echo" 2>&1 &
pids+=($!)
until_true grep -q up "$T/echo"
t_eq "forward of UDP" "$(in_ns ext python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.sendto(b"abc", ("192.0.2.1", 5353)); print(s.recv(99).decode())')" ABC

# A tap, with a guest behind it.
STATE=$S "$BUILD/tests/net/net-tapguest" "$T/s.json" tap g1 >"$T/tap" 2>&1 &
pids+=($!)
until_true grep -q ready "$T/tap"
t_eq "tap: two queues" "$(cat "$T/tap")" "ready 2"
printf '#!/bin/sh\n[ -n "$new_ip_address" ] && ip addr add $new_ip_address/24 dev eth0 && ip route add default via $new_routers\nexit 0\n' >"$T/script"
chmod +x "$T/script"
t "tap: DHCP" in_ns g1 timeout 30 dhclient -1 -sf "$T/script" -lf "$T/g1.lease" -pf "$T/g1.pid" eth0
in_ns g1 dhclient -x -pf "$T/g1.pid" 2>/dev/null
t_eq "tap: the NIC's address" "$(addr4 g1)" 10.30.0.20
t "tap: the guest reaches a container" png g1 10.30.0.10
t "tap: and the outside" png g1 192.0.2.2
t "tap: a container reaches the guest" png n1 10.30.0.20
ip -n g1 addr add 10.30.0.99/24 dev eth0
t_fails "tap: not from an address that is not its own" in_ns g1 busybox ping -c 1 -W 1 -I 10.30.0.99 10.30.0.10
spoofs() { field "$T/s.json" '[n for n in d["nics"] if n["id"] == "tap"][0]["spoofed"]'; }
had=$(spoofs)
t "tap: which is counted" [ "$had" -gt 0 ]

# A restart with other rules keeps the counts.
kill $D
wait $D 2>/dev/null
sed -i 's/"ports": 1}/"ports": 2}/' "$T/s.json"
sn apply "$T/s.json"
t "counts of a port go on after a restart" [ "$(spoofs)" -ge "$had" ]
t "counts of a network too" [ "$(field "$T/s.json" 'sum(n["drops"]["ip"] + n["drops"]["arp"] for n in d["networks"])')" -ge "$had" ]
t "the tap is the same one" png n1 10.30.0.20

# The router's own addresses and ways, taken away.
ip -n "$NAT" addr flush dev up0
ip -n "$NAT" route flush default 2>/dev/null
t_fails "without the router's address nothing goes out" png n1 192.0.2.2
t "mend" sn apply "$T/s.json"
t "mended" png n1 192.0.2.2
t_eq "nothing more to mend" "$(sn reconcile "$T/s.json")" 0
sn clear
t "nothing is left" nothing_left
done_testing
