#!/bin/bash
# bench/api.sh [SECONDS]: GET of one instance (requests a second of one core) and the list of 10,000 (milliseconds), over the unix socket.
# Beside them, where it is installed: an nginx that serves the same text as a file, the peer that does nothing else.
# The instances are written into the database of a daemon of its own; nothing runs.
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)
seconds=${1:-3}
PATH=$source/build/bin:$PATH
T=$(mktemp -d)
trap 'kill $pid $npid 2>/dev/null; rm -rf "$T"' EXIT
pid= npid=
cc -O2 -D_GNU_SOURCE -o "$T/load" "$source/bench/api_load.c"
start() {
	setsid unshare --net --mount stratad --state-dir "$T/s" --run-dir "$T/r" --log-dir "$T/l" 2>"$T/log" </dev/null &
	pid=$!
	for _ in $(seq 600); do strata -H "unix:$T/r/strata.sock" version >/dev/null 2>&1 && return; sleep 0.1; done
	cat "$T/log"
	exit 1
}
stop() { kill $pid; wait $pid || true; }
start
stop
python3 - "$T/s/strata.db" <<'PY'
import json, sqlite3, sys, time, uuid
db = sqlite3.connect(sys.argv[1])
spec = {"kind": "container", "image": "debian:bookworm", "command": ["sleep", "inf"], "env": {"A": "1"}, "cpu": {"count": 1, "shares": 1000},
        "memory": {"size": 268435456}, "nics": [{"id": "nic0", "portgroup": "default"}]}
status = {"state": "stopped", "exit_code": 0, "finished": "2026-11-21T00:00:00.000Z"}
now = int(time.time() * 1000)
for i in range(10000):
    n = now + i
    oid = '%08x-%04x-7%03x-8%03x-%012x' % (n >> 16, n & 0xffff, i & 0xfff, i >> 12, i)
    body = {"created": n * 10**6, "spec": spec, "status": status}
    db.execute('INSERT INTO object VALUES (?,?,?,?,?,?)', (oid, 'instance', 'default', 'web-%d' % i, 1, json.dumps(body)))
db.commit()
PY
start
ticks() { # CPU time of a process in ticks
	awk '{print $14 + $15}' "/proc/$1/stat"
}
hz=$(getconf CLK_TCK)
daemon=$(pgrep -P $pid -x stratad || echo $pid)
one() { # NAME PATH CONNECTIONS
	local before after n s worst
	before=$(ticks "$daemon")
	read -r n s worst < <("$T/load" "$T/r/strata.sock" "$2" "$seconds" "$3")
	after=$(ticks "$daemon")
	awk -v n="$n" -v s="$s" -v w="$worst" -v c=$((after - before)) -v hz="$hz" -v name="$1" \
		'BEGIN {printf "%-34s %8.0f requests/s, %8.0f per second of CPU, worst %.1f ms\n", name, n / s, n * hz / (c > 0 ? c : 1), w}'
}
one "GET of an instance, by name" /v1/instances/web-5000 16
one "the same, one connection" /v1/instances/web-5000 1
one "GET /v1 (nothing looked up)" /v1 16
list() {
	local before after n s worst
	before=$(ticks "$daemon")
	read -r n s worst < <("$T/load" "$T/r/strata.sock" "$1" "$seconds" 1)
	after=$(ticks "$daemon")
	awk -v n="$n" -v s="$s" -v w="$worst" -v c=$((after - before)) -v hz="$hz" -v name="$2" \
		'BEGIN {printf "%-34s %8.1f ms on average, %.1f ms of CPU, worst %.1f ms\n", name, s * 1000 / n, c * 1000 / hz / n, w}'
}
list '/v1/instances?limit=10000' "list of 10,000 instances"
list '/v1/instances?limit=10000&name=web-99*' "of which 111 fit a pattern"
awk '/VmRSS/ {printf "%-34s %8.1f MiB\n", "RSS of stratad", $2 / 1024}' "/proc/$daemon/status"
if command -v nginx >/dev/null; then
	mkdir -p "$T/n/www"
	curl -s --unix-socket "$T/r/strata.sock" http://x/v1/instances/web-5000 >"$T/n/www/one"
	cat >"$T/n/conf" <<NGINX
worker_processes 1; daemon off; pid $T/n/pid; error_log stderr crit;
events {}
http { access_log off; keepalive_requests 100000000; server { listen unix:$T/n/sock; root $T/n/www; } }
NGINX
	setsid nginx -c "$T/n/conf" -p "$T/n" </dev/null 2>/dev/null &
	npid=$!
	for _ in $(seq 100); do [ -S "$T/n/sock" ] && break; sleep 0.05; done
	worker=$(pgrep -P $npid | head -n 1)
	before=$(ticks "$worker")
	read -r n s worst < <("$T/load" "$T/n/sock" /one "$seconds" 16)
	after=$(ticks "$worker")
	awk -v n="$n" -v s="$s" -v w="$worst" -v c=$((after - before)) -v hz="$hz" -v name="nginx, the text as a file" \
		'BEGIN {printf "%-34s %8.0f requests/s, %8.0f per second of CPU, worst %.1f ms\n", name, n / s, n * hz / (c > 0 ? c : 1), w}'
fi
stop
