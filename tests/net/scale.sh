#!/bin/bash
# Many ports: made, changed and removed, with nothing left; the last as fast as the first.
. "${SOURCE:?}/tests/net/lib.sh" || exit 1
requires cmd:python3
n=${STRATA_PORTS:-1000}
python3 - "$n" >"$T/s.json" <<'P'
import json, sys
n = int(sys.argv[1])
rules = [{"proto": "tcp", "ports": 1000 + i} for i in range(20)]
print(json.dumps({"networks": [{"id": "n1"}],
    "portgroups": [{"id": "p1", "network": "n1", "subnet4": "10.0.0.0/16", "subnet6": "fd00:1::/64"}],
    "groups": [{"id": "g", "rules": rules}],
    "nics": [{"id": f"nic{i}", "portgroup": "p1", "ifname": f"c{i}", "no_default_route": True, "dhcp": True,
              "groups": ["g"], "to_nic": {"average": 100000000}} for i in range(n)]}))
P
S0=$(date +%s%N)
t "$n ports" sn apply "$T/s.json"
echo "# $(((($(date +%s%N) - S0) / 1000) / n)) us a port"
N=$(net_of "$T/s.json")
t_eq "all there" "$(ip -n "$N" -o link show type veth | grep -c 'sn[0-9a-f]*@')" "$n"
t_eq "nothing to mend" "$(sn reconcile "$T/s.json")" 0
sed 's/"ports": 1000}/"ports": 999}/' "$T/s.json" >"$T/s2.json"
t "20 rules change for all of them" sn apply "$T/s2.json"
t_eq "by one chain" "$(ip netns exec "$N" nft list table bridge strata | grep -c 'dport 999')" 1
sed 's/"nics": .*/"nics": []}/' "$T/s.json" >"$T/none.json"
t "all removed" sn apply "$T/none.json"
t_eq "no link" "$(ip -n "$N" -o link | grep -c 'sn[0-9a-f]')" 0
t_eq "no element" "$(ip netns exec "$N" nft list table bridge strata | grep -c '"sn[0-9a-f]')" 0
t_eq "no queue" "$(ip netns exec "$N" tc qdisc | grep -c tbf)" 0
sn clear
t "nothing is left" nothing_left

if [ -z "${STRATA_LONG:-}" ]; then
	skip "the last as fast as the first" "times ports, so the machine must be idle: set STRATA_LONG=1"
	done_testing
	exit
fi
# One at a time, with addresses, rules and rates both ways: the last hundred costs what the first did.
"$BUILD/tests/net/net-ports" 1000 veth 1 >"$T/ports"
diag <"$T/ports"
t "the last as fast as the first" awk '/^add/ { if (!first) first = $NF; last = $NF } END { exit !(first && last < 2 * first) }' "$T/ports"
t "nothing is left" nothing_left
done_testing
