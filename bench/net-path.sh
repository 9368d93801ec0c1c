#!/bin/bash
# Two containers on a port group with anti-spoofing and a security group, beside two namespaces on a bare bridge: TCP throughput
# (iperf3) and round trips of small UDP packets, taken in turns.
# usage: bench/net-path.sh [ROUNDS]      as root, on an idle machine; prints medians and ratios
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$here/build}
rounds=${1:-7}
if [ -z "${INSIDE:-}" ]; then
	INSIDE=1 BUILD=$build exec unshare -n -m --propagation private bash "$0" "$rounds"
fi
T=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; "$build/bin/strata-net" --state-dir "$T/state" clear; rm -rf "$T"' EXIT
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
for n in a b x y; do ip netns add $n; ip -n $n link set lo up; done
cat >"$T/s.json" <<'J'
{"networks": [{"id": "n", "mode": "isolated"}],
 "portgroups": [{"id": "p", "network": "n", "subnet4": "10.0.0.0/24"}],
 "groups": [{"id": "g", "rules": [{"proto": "tcp", "ports": 5201}, {"proto": "udp", "ports": 7}]}],
 "nics": [{"id": "a", "portgroup": "p", "netns": "a", "addresses": ["10.0.0.10"], "groups": ["g"]},
	{"id": "b", "portgroup": "p", "netns": "b", "addresses": ["10.0.0.11"], "groups": ["g"]}]}
J
"$build/bin/strata-net" --state-dir "$T/state" apply "$T/s.json"
ip netns add bare
ip -n bare link add br0 type bridge
ip -n bare link set br0 up
for n in x y; do
	ip -n bare link add "p$n" type veth peer name eth0 netns $n
	ip -n bare link set "p$n" master br0 up
	ip -n $n link set eth0 up
done
ip -n x addr add 10.0.0.10/24 dev eth0
ip -n y addr add 10.0.0.11/24 dev eth0
for n in b y; do
	ip netns exec $n iperf3 -s >/dev/null 2>&1 &
	ip netns exec $n "$build/tests/net/net-pingpong" serve &
done
for n in a x; do
	for _ in $(seq 100); do ip netns exec $n iperf3 -c 10.0.0.11 -n 1 >/dev/null 2>&1 && break; sleep 0.1; done
done
for ((i = 0; i < rounds; i++)); do
	for n in a x; do
		ip netns exec $n iperf3 -J -c 10.0.0.11 -t 2 | python3 -c 'import json, sys; print(json.load(sys.stdin)["end"]["sum_received"]["bits_per_second"] / 1e9)' >>"$T/tcp.$n"
		ip netns exec $n "$build/tests/net/net-pingpong" 10.0.0.11 20000 >>"$T/rtt.$n"
	done
done
python3 - "$T" <<'P'
import statistics, sys
t = sys.argv[1]
def col(f, c): return [float(l.split()[c]) for l in open(f"{t}/{f}")]
for what, f, c, unit in (("TCP", "tcp", 0, "Gbit/s"), ("UDP round trip, median", "rtt", 0, "us"), ("UDP round trip, least", "rtt", 1, "us")):
    a, x = col(f"{f}.a", c), col(f"{f}.x", c)
    print(f"{what}: {statistics.median(a):.2f} {unit} with guard and group, {statistics.median(x):.2f} bare; "
          f"median of the ratios {statistics.median(p / q for p, q in zip(a, x)):.3f}")
P
