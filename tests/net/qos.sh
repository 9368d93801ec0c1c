#!/bin/bash
# Rates of a NIC in both directions, by the kernel's counters and clock: a token bucket never gives more, at any load, and gives
# all when there is enough to send.  With STRATA_LONG=1 on an idle machine: every step, and iperf3 as the judge.
. "${SOURCE:?}/tests/net/lib.sh" || exit 1
requires cmd:python3
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
within() { python3 -c 'import sys; g, w = map(float, sys.argv[1:3]); sys.exit(not w * 0.95 <= g <= w * 1.05)' "$1" "$2"; }
# Both directions at once for some seconds: $T/to and $T/from get a line per second.
flow() { # MBIT-TO-SEND WINDOWS
	in_ns c1 timeout 60 python3 "$SOURCE/tests/net/flow.py" 10.0.0.11 "$1" "$2" >"$T/to" 2>"$T/flow.err" &
	f1=$!
	in_ns c2 timeout 60 python3 "$SOURCE/tests/net/flow.py" 10.0.0.10 "$1" "$2" >"$T/from" 2>"$T/flow.err" &
	f2=$!
	pids+=($f1 $f2)
}
# The first window has the burst in it.  judge FILE MBIT FIRST-LINE: never above, and as much in one of them.
judge() {
	python3 - "$T/$1" "$2" "$3" <<'P'
import sys
v = [float(x) for x in open(sys.argv[1])][int(sys.argv[3]):]
want = float(sys.argv[2])
print("Mbit/s:", v)
sys.exit(not (v and max(v) <= want * 1.05 and max(v) >= want * 0.95))
P
}
for m in ${STRATA_LONG:+5 10 50 100 200 500} 1 20 1000; do
	state "${m}000000" 0 0
	flow "$(python3 -c "print($m * 1.4)")" 6
	wait $f1 $f2
	t "$m Mbit/s to the NIC" judge to "$m" 1
	t "$m Mbit/s from the NIC" judge from "$m" 1
done

# A change while it flows.
state 10000000 0 0
flow 70 11
lines() { [ "$(wc -l <"$T/to")" -ge "$1" ]; }
until_true lines 3
state 50000000 0 0
until_true lines 7
state 10000000 0 0
wait $f1 $f2
part() { sed -n "$2" "$T/$1" >"$T/part.$1"; judge "part.$1" "$3" 0; }
for d in to from; do
	t "changed while it flows, $d: 10 at first" part $d 2,3p 10
	t "changed while it flows, $d: then 50" part $d 5,7p 50
	t "changed while it flows, $d: 10 again" part $d 10,11p 10
done

# Peak and burst: 20 Mbit/s on average, never above 80, and 7.5 MB of burst: 7.5 MB / (10 - 2.5 MB/s) = 1 s at the peak.
state 20000000 80000000 7500000
flow 120 6
wait $f1 $f2
for d in to from; do
	t "$d: never faster than the peak" python3 -c 'import sys; v = [float(x) for x in open(sys.argv[1])]; print(v); sys.exit(max(v) > 84)' "$T/$d"
	t "$d: the burst is used" python3 -c 'import sys; v = [float(x) for x in open(sys.argv[1])]; print(v); sys.exit(sum(v[:3]) < 75)' "$T/$d"
	t "$d: the average after it" judge $d 20 3
done

if [ -n "${STRATA_LONG:-}" ] && command -v iperf3 >/dev/null; then
	in_ns c2 iperf3 -s >/dev/null 2>&1 &
	pids+=($!)
	until_true sh -c "ip netns exec c2 ss -ltnH 'sport = :5201' | grep -q ."
	for m in 1 5 10 50 100 200 500 1000; do
		state "${m}000000" 0 0
		for way in "" -R; do
			for _ in 1 2 3; do # TCP's start and end weigh more at low rates
				got=$(in_ns c1 iperf3 -J -c 10.0.0.11 -t $((m < 10 ? 20 : 5)) -O 2 $way 2>/dev/null | python3 -c '
import json, sys
d = json.load(sys.stdin)["end"]["sum_received"]
print(round(d["bits_per_second"] / 1e6 * 1500 / 1448, 3))') # what limits count: IP bytes
				within "$got" "$m" 2>/dev/null && break
			done
			t "iperf3: $m Mbit/s $([ -n "$way" ] && echo 'to the NIC' || echo 'from the NIC'): $got" within "$got" "$m"
		done
	done
fi

# Limits taken away leave no helper devices.
sed -i 's/"to_nic".*}},$/"hostname": "a"},/' "$T/s.json"
t "limits removed" sn apply "$T/s.json"
N=$(net_of "$T/s.json")
t_fails "no limiter is left" sh -c "ip -n $N link | grep -q si"
t_fails "no token bucket is left" sh -c "ip netns exec $N tc qdisc | grep -q tbf"
sn clear
t "nothing is left" nothing_left
done_testing
