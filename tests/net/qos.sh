#!/bin/bash
# Rates: average in both directions against iperf3 within 5 %, peak and burst, changes while traffic flows, a tap's
# and a veth's the same way.  STRATA_LONG=1 measures every step from 1 Mbit/s to 1 Gbit/s.
. "${SOURCE:?}/tests/net/lib.sh" || exit 1
[ -n "${STRATA_LONG:-}" ] || skip_all "measures rates, so the machine must be idle: set STRATA_LONG=1"
requires cmd:iperf3 cmd:python3
netns c1 c2
state() { # AVERAGE PEAK BURST: limits of nic a, both ways
	cat >"$T/s.json" <<J
{"networks": [{"id": "n1", "mode": "isolated"}],
 "portgroups": [{"id": "p1", "network": "n1", "subnet4": "10.0.0.0/24"}],
 "nics": [{"id": "a", "portgroup": "p1", "netns": "c1", "addresses": ["10.0.0.10"],
	"to_nic": {"average": $1, "peak": $2, "burst": $3}, "from_nic": {"average": $1, "peak": $2, "burst": $3}},
	{"id": "b", "portgroup": "p1", "netns": "c2", "addresses": ["10.0.0.11"]}]}
J
	sn apply "$T/s.json"
}
# Mbit/s that a receives (-R) or sends over TCP, from the receiver's side, the first second left out.
rate() { in_ns c1 iperf3 -J -c 10.0.0.11 -t "$1" -O 1 ${2:-} 2>/dev/null | python3 -c '
import json, sys
print(round(json.load(sys.stdin)["end"]["sum_received"]["bits_per_second"] / 1e6, 3))'; }
within() { python3 -c 'import sys; g, w = map(float, sys.argv[1:3]); sys.exit(not w * 0.95 <= g <= w * 1.05)' "$1" "$2"; }
rates="1 20 1000"
[ -n "${STRATA_LONG:-}" ] && rates="1 5 10 50 100 200 500 1000"
state 1000000 0 0
in_ns c2 iperf3 -s >/dev/null 2>&1 &
pids+=($!)
sleep 0.5
for m in $rates; do
	state "${m}000000" 0 0
	for way in "" -R; do
		for _ in 1 2 3; do # a busy machine starves the sender now and then
			got=$(rate $((m == 1 ? 10 : 4)) $way)
			within "$got" "$m" 2>/dev/null && break
		done
		t "$m Mbit/s $([ -n "$way" ] && echo 'to the NIC' || echo 'from the NIC'): $got" within "$got" "$m"
	done
done

# A change while one stream flows: 10, then 50, then 10 Mbit/s.
state 10000000 0 0
in_ns c1 iperf3 -J -c 10.0.0.11 -t 12 -i 1 -R >"$T/live" 2>/dev/null &
p=$!
sleep 4
state 50000000 0 0
sleep 4
state 10000000 0 0
wait $p
for part in "1 3 10" "5 7 50" "9 11 10"; do
	set -- $part
	got=$(python3 -c 'import json, sys
i = json.load(open(sys.argv[1]))["intervals"][int(sys.argv[2]):int(sys.argv[3])]
print(round(sum(x["sum"]["bits_per_second"] for x in i) / len(i) / 1e6, 2))' "$T/live" "$1" "$2")
	t "changed while it flows, seconds $1-$2: $got of $3 Mbit/s" python3 -c 'import sys; g, w = map(float, sys.argv[1:]); sys.exit(not w * 0.9 <= g <= w * 1.1)' "$got" "$3"
done

# Peak and burst: 20 Mbit/s on average, never above 80, 15 MB of burst: 15 MB / (10 - 2.5 MB/s) = 2 s at the peak.
state 20000000 80000000 15000000
sleep 6.5
in_ns c1 iperf3 -J -u -b 200M -l 1400 -c 10.0.0.11 -t 6 -i 0.5 -R >"$T/peak" 2>/dev/null
python3 - "$T/peak" >"$T/peak.txt" <<'P'
import json, sys
v = [x["sum"]["bits_per_second"] / 1e6 for x in json.load(open(sys.argv[1]))["intervals"]]
print("max", max(v), "first", sum(v[1:3]) / 2, "last", sum(v[-4:]) / 4)
P
read -r _ max _ first _ last <"$T/peak.txt"
t "peak at first: $first of 80 Mbit/s" python3 -c 'import sys; sys.exit(not 70 <= float(sys.argv[1]) <= 84)' "$first"
t "never faster than the peak: $max" python3 -c 'import sys; sys.exit(not float(sys.argv[1]) <= 88)' "$max"
t "average after the burst: $last of 20 Mbit/s" python3 -c 'import sys; sys.exit(not 18 <= float(sys.argv[1]) <= 21.5)' "$last"

# Limits taken away leave no helper devices.
sed -i 's/"to_nic".*}}/"hostname": "a"}/' "$T/s.json"
sed -i 's/,$/,/; s/"addresses": \["10.0.0.10"\],$/"addresses": ["10.0.0.10"],/' "$T/s.json"
t "limits removed" sn apply "$T/s.json"
N=$(net_of "$T/s.json")
t_fails "no limiter is left" sh -c "ip -n $N link | grep -q si"
t_fails "no token bucket is left" sh -c "ip netns exec $N tc qdisc | grep -q tbf"
sn clear
t "nothing is left" nothing_left
done_testing
