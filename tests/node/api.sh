#!/bin/bash
# stratad by itself: start, answers and errors of the API, one daemon a state folder, damage, stop.
. "$SOURCE/tests/lib.sh"
requires root cmd:curl cmd:jq

daemon() { # daemon [OPTION...]: start and wait for the socket
	stratad --state-dir "$T/s" --run-dir "$T/r" --log-dir "$T/l" "$@" 2>"$T/log" &
	pid=$!
	at_exit "kill $pid 2>/dev/null"
	for _ in $(seq 100); do
		[ -S "$T/r/strata.sock" ] && api /v1/host >/dev/null && return
		kill -0 $pid 2>/dev/null || return 1
		sleep 0.05
	done
	return 1
}
api() { curl -s --unix-socket "$T/r/strata.sock" "http://localhost$1" "${@:2}"; }
status() { api "$1" -o /dev/null -w '%{http_code}' "${@:2}"; }

t "it starts" daemon || { cat "$T/log"; done_testing; exit 1; }
t_eq "the host tells its capacity" "$(api /v1/host | jq '.cpu.vcpus == .cpu.sockets * .cpu.cores * .cpu.threads')" true
t_eq "lists are there and empty" "$(api /v1/instances | jq -c .)" '{"items":[]}'
t_eq "an unknown object is a 404 with its name" "$(api /v1/instances/web | jq -r .error.message)" "there is no instance 'web'"
t_eq "an unknown path is a 404" "$(status /v1/no/such/thing)" 404
t_eq "a wrong method is a 405" "$(status /v1/host -X DELETE)" 405
t_eq "a path with empty parts is a 404" "$(status //v1//host)" 404
t_eq "a wait that is no duration is refused" "$(status '/v1/tasks/x?wait=soon')" 400
t_eq "a body that is too large is refused" \
	"$(head -c 5000000 /dev/zero | status /v1/tasks/x/cancel -X POST -H 'Content-Type: application/json' --data-binary @-)" 413
t_eq "a body that is no JSON is refused with its place" \
	"$(api /v1/tasks/x/cancel -X POST -H 'Content-Type: application/json' -d '{"a":' | jq -r .error.id)" json.syntax
t "metrics end as OpenMetrics wants" sh -c "curl -s --unix-socket '$T/r/strata.sock' http://localhost/metrics | tail -n 1 | grep -qx '# EOF'"
t_eq "changes are in the audit log" "$(grep -c 'audit.*method=DELETE path=/v1/host status=405' "$T/log")" 1
t_fails "a second daemon on the same state is refused" \
	timeout 5 stratad --state-dir "$T/s" --run-dir "$T/r2" --log-dir "$T/l"
kill $pid
wait $pid
t_eq "it stops with status 0" $? 0
t "it starts again" daemon
kill -9 $pid
wait $pid 2>/dev/null
t "it starts after kill -9, over the stale socket" daemon
kill $pid
wait $pid
head -c 8192 /dev/urandom >"$T/s/strata.db"
rm -f "$T/s"/strata.db-*
t_fails "a damaged database is refused" timeout 5 stratad --state-dir "$T/s" --run-dir "$T/r" --log-dir "$T/l"
t_eq "an unknown option is named" "$(stratad --sate-dir x 2>&1 | head -n 1)" \
	"stratad: --sate-dir: unknown option; did you mean '--state-dir'?"
done_testing
