#!/bin/bash
# Adding a port: daemon time of net_nic_put() (veth, addresses, 20 rules, with and without rates both ways) beside what a script
# pays with Open vSwitch (`ovs-vsctl add-port` and `nft -f`) and with a bridge as container engines make it (ip, iptables).
# usage: bench/net-ports.sh [PORTS]      as root, on an idle machine; prints microseconds and ratios
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$here/build}
n=${1:-1000}
if [ -z "${INSIDE:-}" ]; then
	INSIDE=1 BUILD=$build exec unshare -n -m --propagation private bash "$0" "$n"
fi
T=$(mktemp -d)
trap 'kill $(cat "$T"/*.pid 2>/dev/null) 2>/dev/null; rm -rf "$T"' EXIT
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
ip link set lo up

ours() { # RATES: median of the first and of the last hundred
	"$build/tests/net/net-ports" "$n" veth "$1" >"$T/ours"
	awk '/^add/ { if (!f) f = $4; l = $4 } END { print f, l }' "$T/ours"
}
per() { # NAME COUNT COMMAND: mean microseconds of COMMAND INDEX
	local i s
	s=$(date +%s%N)
	for ((i = 0; i < $2; i++)); do "$3" "$i"; done
	echo $((($(date +%s%N) - s) / 1000 / $2))
}
rules() { # the rules of one port as a script would load them
	echo "add table bridge b"
	echo "add chain bridge b p$1"
	local k
	for ((k = 0; k < 20; k++)); do echo "add rule bridge b p$1 tcp dport $((1000 + k)) accept"; done
}
read -r first last < <(ours 0)
read -r rfirst rlast < <(ours 1)
echo "strata, veth, addresses, rules:       first hundred $first us, last hundred of $n $last us"
echo "strata, the same and rates both ways: first hundred $rfirst us, last hundred of $n $rlast us"

if command -v ovs-vswitchd >/dev/null; then
	export OVS_RUNDIR=$T OVS_DBDIR=$T
	ovsdb-tool create "$T/conf.db" /usr/share/openvswitch/vswitch.ovsschema
	ovsdb-server "$T/conf.db" --remote="punix:$T/db.sock" --detach --pidfile="$T/db.pid" --log-file="$T/db.log" >/dev/null 2>&1
	ovs-vswitchd "unix:$T/db.sock" --detach --pidfile="$T/vs.pid" --log-file="$T/vs.log" >/dev/null 2>&1
	vs() { ovs-vsctl --db="unix:$T/db.sock" "$@"; }
	vs --no-wait init
	vs add-br br0 -- set bridge br0 datapath_type=netdev # no kernel module is needed, nor faster at adding a port
	ovs_port() {
		ip link add "ov$1" type veth peer name "op$1"
		vs add-port br0 "ov$1"
		rules "$1" | nft -f -
	}
	got=$(per ovs 20 ovs_port)
	echo "ovs-vsctl add-port and nft -f:        $got us, $((got / (first > 0 ? first : 1))) times ours"
fi
ip link add docker0 type bridge
ip link set docker0 up
engine_port() { # veth, namespace, address, masquerade and filter rules: what a container engine runs
	ip link add "dv$1" type veth peer name "dp$1"
	ip link set "dv$1" master docker0 up
	ip link set "dp$1" netns eng
	ip -n eng addr add "172.17.0.$(($1 + 2))/16" dev "dp$1"
	ip -n eng link set "dp$1" up
	iptables -w -A FORWARD -i docker0 -s "172.17.0.$(($1 + 2))" -j ACCEPT
}
if command -v iptables >/dev/null; then
	ip netns add eng
	got=$(per engine 20 engine_port)
	echo "ip and iptables on a bridge:          $got us, $((got / (first > 0 ? first : 1))) times ours"
fi
