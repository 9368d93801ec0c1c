#!/bin/bash
# DHCPv4, DHCPv6, RA, DNS and metadata against stock clients; tshark judges the packets.
. "${SOURCE:?}/tests/net/lib.sh" || exit 1
requires cmd:dhclient cmd:dig cmd:curl cmd:busybox cmd:tshark cmd:rdisc6 cmd:python3
outside
netns c1 c2 c3 c4
echo 'nameserver 192.0.2.2' >"$T/resolv.conf"
cat >"$T/s.json" <<'J'
{"networks": [{"id": "n1", "domain": "lan.example"}, {"id": "iso", "mode": "isolated"}],
 "portgroups": [{"id": "p1", "network": "n1", "subnet4": "10.0.0.0/24", "subnet6": "fd00:1::/64", "mtu": 1400},
	{"id": "pool", "network": "n1", "subnet4": "10.9.0.0/16", "no_guard": true,
	 "range": {"first": "10.9.1.0", "last": "10.9.200.255"}},
	{"id": "pi", "network": "iso", "subnet4": "10.0.0.0/24"}],
 "nics": [{"id": "a", "portgroup": "p1", "netns": "c1", "dhcp": true, "hostname": "alpha", "owner": "vm-1",
	   "user_data": "#cloud-config\nhostname: alpha\n", "ssh_keys": "ssh-ed25519 AAAA me"},
	{"id": "b", "portgroup": "p1", "netns": "c2", "hostname": "beta", "user_data": "secret of beta"},
	{"id": "x", "portgroup": "pool", "netns": "c3", "dhcp": true},
	{"id": "i", "portgroup": "pi", "netns": "c4", "dhcp": true}]}
J
bg strata-net --state-dir "$S" --resolv-conf "$T/resolv.conf" run "$T/s.json"
D=$!
# A server that has one answer, and for "big" one that only TCP has room for.
cat >"$T/upstream.py" <<'P'
import socket, threading
def answer(q, tcp):
    i, name = 12, b""
    while q[i]:
        name, i = name or q[i + 1:i + 1 + q[i]], i + q[i] + 1
    n = 200 if name == b"big" and tcp else 1
    if name == b"big" and not tcp:
        return q[:2] + b"\x83\x80" + q[4:6] + bytes(6) + q[12:i + 5]
    r = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([203, 0, 113, 7 + k]) for k in range(n))
    return q[:2] + b"\x81\x80" + q[4:6] + n.to_bytes(2, "big") + bytes(4) + q[12:i + 5] + r
def serve_tcp():
    s = socket.create_server(("192.0.2.2", 53))
    while True:
        c, _ = s.accept()
        n = int.from_bytes(c.recv(2), "big")
        r = answer(c.recv(n), True)
        c.sendall(len(r).to_bytes(2, "big") + r)
        c.close()
threading.Thread(target=serve_tcp, daemon=True).start()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('192.0.2.2', 53))
while True:
    q, a = s.recvfrom(4096)
    s.sendto(bytes([q[0] ^ 1]) + answer(q, False)[1:], a) # somebody's guess: the wrong id
    s.sendto(answer(q, False), a)
P
bg ip netns exec ext python3 "$T/upstream.py"
until_true ip -n c1 link show eth0
in_ns c1 tcpdump -U --immediate-mode -Z root -ni eth0 -w "$T/c1.pcap" 2>"$T/c1.err" &
TS=$!
pids+=($TS)
until_true grep -q listening "$T/c1.err"
until_true in_ns c2 dig +time=1 +tries=1 @10.0.0.1 beta.lan.example
until_true in_ns c2 dig +time=1 +tries=1 @10.0.0.1 www.example.com

dhc() { in_ns "$1" timeout 20 dhclient -1 -v -sf "$T/script" -lf "$T/$1.lease" -pf "$T/$1.pid" "${@:2}" eth0; }
printf '#!/bin/sh\nenv | grep -E "^(reason|new_)" >>%s/dhcp.env\nexit 0\n' "$T" >"$T/script"
chmod +x "$T/script"
t "dhclient: lease" dhc c1
in_ns c1 dhclient -x -pf "$T/c1.pid" 2>/dev/null
A=$(sed -n 's/^new_ip_address=//p' "$T/dhcp.env" | head -1)
t_eq "dhclient: the NIC's address" "$A" "$(field "$T/s.json" '[n for n in d["nics"] if n["id"] == "a"][0]["addresses"][0]')"
for want in new_routers=10.0.0.1 new_domain_name_servers=10.0.0.1 new_interface_mtu=1400 new_domain_name=lan.example \
	new_host_name=alpha new_subnet_mask=255.255.255.0; do
	t "dhclient: $want" grep -qx "$want" "$T/dhcp.env"
done
t "dhclient: metadata route" grep -q '^new_rfc3442_classless_static_routes=.*169 254 169 254' "$T/dhcp.env"
t "udhcpc: lease" in_ns c1 timeout 10 busybox udhcpc -i eth0 -n -q -f -s /bin/true
: >"$T/dhcp.env"
t "dhclient in the isolated network" dhc c4
in_ns c4 dhclient -x -pf "$T/c4.pid" 2>/dev/null
t_fails "and no way out there" grep -q new_routers "$T/dhcp.env"

# DHCPv6 and RA
: >"$T/dhcp.env"
ip -n c1 addr add "$A/24" dev eth0 2>/dev/null
until_true sh -c "! ip -n c1 -6 addr show dev eth0 | grep -q tentative"
t "dhclient -6: lease" dhc c1 -6
in_ns c1 dhclient -x -6 -pf "$T/c1.pid" 2>/dev/null
t_eq "dhclient -6: the NIC's address" "$(sed -n 's/^new_ip6_address=//p' "$T/dhcp.env" | head -1)" \
	"$(field "$T/s.json" '[n for n in d["nics"] if n["id"] == "a"][0]["addresses"][1]')"
t "dhclient -6: DNS" grep -q '^new_dhcp6_name_servers=fd00:1::1' "$T/dhcp.env"
in_ns c1 rdisc6 -1 eth0 >"$T/ra" 2>&1
t "rdisc6: managed" grep -q 'Stateful address conf.*Yes' "$T/ra"
t "rdisc6: prefix" grep -q 'Prefix.*fd00:1::/64' "$T/ra"
t "rdisc6: MTU" grep -q 'MTU.*1400' "$T/ra"
t "rdisc6: DNS" grep -q 'Recursive DNS server.*fd00:1::1' "$T/ra"

# DNS
dg() { in_ns c2 dig +time=2 +tries=1 +short "$@"; }
t_eq "dig: name" "$(dg @10.0.0.1 alpha.lan.example)" "$A"
t_eq "dig: bare name" "$(dg @10.0.0.1 alpha)" "$A"
t_eq "dig: case" "$(dg @10.0.0.1 ALPHA.Lan.Example)" "$A"
t_eq "dig: over TCP" "$(dg +tcp @10.0.0.1 alpha.lan.example)" "$A"
t_eq "dig: over IPv6" "$(dg @fd00:1::1 alpha.lan.example)" "$A"
t_eq "dig: AAAA" "$(dg @10.0.0.1 AAAA beta.lan.example)" "$(addr6 c2)"
t_eq "dig: reverse" "$(dg @10.0.0.1 -x "$A")" alpha.lan.example.
t_eq "dig: reverse IPv6" "$(dg @10.0.0.1 -x "$(addr6 c2)")" beta.lan.example.
t_eq "dig: forwarded" "$(dg @10.0.0.1 www.example.com)" 203.0.113.7
t_eq "dig: forwarded, over TCP" "$(dg +tcp @10.0.0.1 www.example.com)" 203.0.113.7
t_eq "dig: an answer that only TCP has room for" "$(dg @10.0.0.1 big.example.com | wc -l)" 200
t "dig: no such name" sh -c "ip netns exec c2 dig +time=2 @10.0.0.1 nobody.lan.example | grep -q NXDOMAIN"
ip -n c4 addr add 10.0.0.77/24 dev eth0
t_fails "no answer to an address that is not its own" in_ns c4 dig +time=1 +tries=1 @10.0.0.1 alpha

# Metadata
md() { in_ns "$1" curl -s -m 3 "http://169.254.169.254$2"; }
ip -n c1 route add default via 10.0.0.1 2>/dev/null
t_eq "metadata: user data" "$(md c1 /latest/user-data | head -1)" "#cloud-config"
t_eq "metadata: hostname" "$(md c1 /latest/meta-data/local-hostname)" alpha
t_eq "metadata: address" "$(md c1 /latest/meta-data/local-ipv4)" "$A"
t_eq "metadata: key" "$(md c1 /latest/meta-data/public-keys/0/openssh-key)" "ssh-ed25519 AAAA me"
t_eq "metadata: own data only" "$(md c2 /openstack/latest/user_data)" "secret of beta"
t_eq "metadata: OpenStack" "$(md c1 /openstack/latest/meta_data.json | python3 -c 'import json,sys; print(json.load(sys.stdin)["uuid"])')" vm-1
t_eq "metadata: NoCloud" "$(md c1 /nocloud/meta-data | head -1)" 'instance-id: "vm-1"'
t_eq "metadata: not through a proxy" "$(in_ns c1 curl -s -m 3 -o /dev/null -w '%{http_code}' -H 'X-Forwarded-For: 1.2.3.4' http://169.254.169.254/)" 403
t_eq "metadata: not found" "$(in_ns c1 curl -s -m 3 -o /dev/null -w '%{http_code}' http://169.254.169.254/etc/passwd)" 404

# Many clients behind one port that is not guarded.
if command -v perfdhcp >/dev/null; then
	ip -n c3 addr add 10.9.0.2/16 dev eth0
	in_ns c3 timeout 60 perfdhcp -4 -r 200 -n 1000 -R 300 -l eth0 -B >"$T/perf" 2>&1
	in_ns c3 timeout 60 perfdhcp -4 -r 200 -n 1000 -R 300 -d 10 -W 3000000 -l eth0 >"$T/perf" 2>&1
	none_lost() { [ "$1" = 0 ]; }
	t "perfdhcp: offers come" none_lost "$(grep -m1 -A6 'DISCOVER-OFFER' "$T/perf" | sed -n 's/^drops: //p')"
	t "perfdhcp: acknowledgements come" none_lost "$(grep -A6 'REQUEST-ACK' "$T/perf" | sed -n 's/^drops: //p' | head -1)"
	until_true sh -c "[ \$(cat '$S'/*.leases | grep -c ^lease4) -ge 250 ]"
	t_eq "no address twice" "$(grep -h ^lease4 "$S"/*.leases | awk '{ print $2 }' | sort | uniq -d | wc -l)" 0
	t "leases are on disk" test "$(cat "$S"/*.leases | grep -c ^lease4)" -ge 250
else
	skip "perfdhcp" "needs perfdhcp"
fi

# Judged by tshark: nothing malformed from us.
kill $TS
wait $TS 2>/dev/null
t_eq "tshark: nothing malformed" "$(tshark -r "$T/c1.pcap" -Y '_ws.malformed' 2>/dev/null | wc -l)" 0
t "tshark: an ACK" sh -c "tshark -r '$T/c1.pcap' -Y 'dhcp.option.dhcp == 5' 2>/dev/null | grep -q ACK"
t_eq "tshark: good checksums" "$(tshark -r "$T/c1.pcap" -o ip.check_checksum:TRUE -o udp.check_checksum:TRUE \
	-Y 'udp.srcport == 67 && (ip.checksum.status == 0 || udp.checksum.status == 0)' 2>/dev/null | wc -l)" 0

# A restart keeps leases.
before=$(cat "$S"/*.leases | sort | md5sum)
kill $D
wait $D 2>/dev/null
t_eq "leases are kept" "$(cat "$S"/*.leases | sort | md5sum)" "$before"
sn clear
t "nothing is left" nothing_left
done_testing
