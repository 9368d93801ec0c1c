#!/bin/bash
# What a kernel with every module has: VLANs on an uplink, connection state in the bridge family; and what happens without.
. "${SOURCE:?}/tests/lib.sh" || exit 1
. "$SOURCE/tests/lab/lib.sh" || exit 1
[ -n "${STRATA_LONG:-}${LAB_HOST:-}" ] || skip_all "boots a virtual host: set STRATA_LONG=1"
LAB_TIMEOUT=120 lab_inside
if [ -z "${STRATA_NET_INSIDE:-}" ]; then # before lib.sh goes into a namespace of its own
	mkdir -p /etc/modprobe.d
	printf 'install nf_conntrack_bridge /bin/false\ninstall br_netfilter /bin/false\n' >/etc/modprobe.d/strata-test.conf
	modprobe -a 8021q tun ifb 2>/dev/null
fi
. "$SOURCE/tests/net/lib.sh" || exit 1
requires cmd:busybox cmd:tcpdump cmd:python3 cmd:curl
netns c1 c2 c3 phys
mkdir -p /var/empty
net='"networks": [{"id": "n1", "mode": "isolated"}]'
nics() { # GROUPS: c1 and c2 on VLAN 5, c3 on 6; c2 has the groups
	cat <<J
"nics": [{"id": "a", "portgroup": "p5", "netns": "c1", "addresses": ["10.5.0.10"]},
	{"id": "b", "portgroup": "p5", "netns": "c2", "addresses": ["10.5.0.11"], "groups": [$1]},
	{"id": "c", "portgroup": "p6", "netns": "c3", "addresses": ["10.5.0.10"]}]
J
}
state() { # VLAN-OF-p5 GROUPS
	cat >"$T/s.json" <<J
{"networks": [{"id": "n1", "mode": "isolated"}, {"id": "n2", "mode": "isolated"}],
 "portgroups": [{"id": "p5", "network": "n1", "subnet4": "10.5.0.0/24", "uplink": "u0", "vlan": $1},
	{"id": "p6", "network": "n2", "subnet4": "10.5.0.0/24", "uplink": "u0", "vlan": 6}],
 "groups": [{"id": "web", "rules": [{"proto": "tcp", "ports": 80}]}], $(nics "$2")}
J
	sn apply "$T/s.json"
}
# The physical network: a switch port with VLANs 5, 6 and 7, a machine on each.
ip link add u0 type veth peer name u1 netns phys
ip link set u0 up
ip -n phys link set u1 up
for v in 5 6 7; do
	ip -n phys link add link u1 name "v$v" type vlan id $v
	ip -n phys addr add "10.5.0.10$v/24" dev "v$v"
	ip -n phys link set "v$v" up
done
phys() { in_ns phys busybox ping -c 1 -W 1 -I "$1" "$2"; }

t_fails "without connection state in the kernel groups are refused" state 5 '"web"'
state 5 '"web"' 2>"$T/err"
t "in one clear line" grep -q 'security groups need nf_conntrack_bridge or br_netfilter' "$T/err"
t_eq "that NIC is not half-made" "$(ip -n c2 -o link show eth0 2>/dev/null | wc -l)" 0
rm /etc/modprobe.d/strata-test.conf
t "with it they are not" state 5 '"web"'
N=$(for n in $(ip netns | awk '/^strata-/ { print $1 }'); do ip -n "$n" -d link | grep -q 'vlan protocol 802.1Q id 5' && echo "$n"; done)
t "the bridge family asks for the state itself" sh -c "ip netns exec $N nft list chain bridge strata sg_in_forward | grep -q 'ct state.*established'"
t "VLAN 5: an instance reaches the machine there" png c1 10.5.0.105
t "VLAN 6: the same address, the other one" png c3 10.5.0.106
t_fails "VLAN 5: not the machine of VLAN 6" png c1 10.5.0.106
in_ns phys tcpdump -U -Z root -enc 2 -i u1 'vlan 5 and icmp' >"$T/tagged" 2>"$T/tagged.err" &
p=$!
pids+=($p)
until_true grep -q listening "$T/tagged.err"
t "VLAN 5: from outside" phys v5 10.5.0.10
wait $p
t_eq "the frames are tagged" "$(grep -c 'vlan 5' "$T/tagged")" 2
web c2 80
web c2 81
web c1 80
t "groups: an open port" get c1 http://10.5.0.11:80/
t "groups: from behind the uplink" get phys http://10.5.0.11:80/
t_fails "groups: a closed port" get c1 http://10.5.0.11:81/ 1
t "groups: what the member starts is answered" get c2 http://10.5.0.10:80/
t_fails "groups: a ping is not let in" png c1 10.5.0.11
in_ns c1 busybox ping -i 0.05 -c 60 -q 10.5.0.105 >"$T/ping" 2>&1 &
p=$!
for _ in 1 2 3; do sn apply "$T/s.json"; done
wait $p
t_eq "a restart loses no frame on the uplink" "$(grep -o '[0-9]*% packet loss' "$T/ping")" "0% packet loss"
t_eq "nothing to mend" "$(sn reconcile "$T/s.json")" 0
t "the VLAN changes" state 7 ''
t "VLAN 7" png c1 10.5.0.107
t_fails "no longer VLAN 5" png c1 10.5.0.105
ip link del u0
t_fails "the uplink is gone: said so" sn apply "$T/s.json"
sn clear
t "nothing is left" nothing_left
done_testing
