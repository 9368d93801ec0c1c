#!/bin/bash
# stratad by itself: start, answers and errors of the API, one daemon a state folder, damage, stop.
. "$SOURCE/tests/lib.sh"
requires root cmd:curl cmd:jq

daemon() { # daemon [OPTION...]: start and wait for the socket
	stratad --state-dir "$T/s" --run-dir "$T/r" --log-dir "$T/l" "$@" 2>"$T/log" &
	pid=$!
	at_exit "kill $pid 2>/dev/null"
	for _ in $(seq 100); do
		[ -S "$T/r/strata.sock" ] && api /v1/hosts >/dev/null && return
		kill -0 $pid 2>/dev/null || return 1
		sleep 0.05
	done
	return 1
}
api() { curl -s --unix-socket "$T/r/strata.sock" "http://localhost$1" "${@:2}"; }
status() { api "$1" -o /dev/null -w '%{http_code}' "${@:2}"; }

t "it starts" daemon || { cat "$T/log"; done_testing; exit 1; }
host=$(api /v1/hosts | jq -r '.items[0].name')
t_eq "the host tells its capacity" "$(api "/v1/hosts/$host" | jq '.status.cpu | .cpus == .sockets * .cores * .threads')" true
t_eq "the project 'default' is there" "$(api /v1/projects | jq -r '.items[].name')" default
t_eq "an unknown object is a 404 with its name" "$(api /v1/projects/web | jq -r .error.message)" "there is no project 'web'"
t_eq "what is planned only is not served" "$(status /v1/firewalls)" 404
t_eq "an unknown path is a 404" "$(status /v1/no/such/thing)" 404
t_eq "a wrong method is a 405" "$(status /v1/hosts -X DELETE)" 405
t_eq "which says what there is" "$(api /v1/hosts -X DELETE -D - -o /dev/null | tr -d '\r' | grep -i ^allow)" "Allow: GET"
t_eq "a path with empty parts is a 404" "$(status //v1//host)" 404
t_eq "a query is checked" "$(api '/v1/tasks/x/wait?timeout=soon' | jq -r .error.message)" "query.timeout: 'soon' is not a duration such as 30s or 5m"
t_eq "one that a path does not take is refused" "$(status '/v1/hosts?x=1')" 400
t_eq "a body that is too large is refused" \
	"$(head -c 5000000 /dev/zero | status /v1/projects -X POST -H 'Content-Type: application/json' --data-binary @-)" 413
t_eq "a body of another type is refused" "$(status /v1/projects -d '{"name":"x"}')" 415
json() { api "$1" -H 'Content-Type: application/json' "${@:2}"; }
t_eq "a body that is no JSON is refused with its place" \
	"$(json /v1/projects -d '{"a":' | jq -r .error.id)" json.syntax
t_eq "a body that breaks a rule is refused with path and rule" \
	"$(json /v1/projects -d '{"name":"lab","spec":{"quota":{"cpus":-1}}}' | jq -r .error.message)" \
	"project.quota.cpus: -1 is below the minimum 0"
t_eq "an object is made" "$(json /v1/projects -d '{"name":"lab","spec":{"quota":{"memory":"1G"}}}' | jq -c '[.name, .revision, .spec.quota.memory]')" \
	'["lab",1,1073741824]'
t_eq "but not twice" "$(json /v1/projects -d '{"name":"lab"}' -o /dev/null -w '%{http_code}')" 409
t_eq "a merge patch changes it" "$(json /v1/projects/lab -X PATCH -d '{"spec":{"quota":{"cpus":4}}}' | jq -c '[.revision, .spec.quota.memory, .spec.quota.cpus]')" '[2,1073741824,4]'
t_eq "a stale revision is refused" "$(json /v1/projects/lab -X PATCH -H 'If-Match: "1"' -d '{"description":"x"}' | jq -r .error.id)" request.conflict
t_eq "null takes a field away" "$(json /v1/projects/lab -X PATCH -d '{"spec":{"quota":{"cpus":null}}}' | jq -c .spec.quota)" '{"memory":1073741824}'
t_eq "it is removed" "$(status /v1/projects/lab -X DELETE)" 204
t_eq "and gone" "$(status /v1/projects/lab)" 404
t_eq "events tell of it in order" "$(api '/v1/events?type=project.*' | jq -r 'select(.object.name == "lab").type' | tr '\n' ' ')" \
	"project.created project.changed project.changed project.deleted "
t "the OpenAPI document lists what is served" sh -c "curl -s --unix-socket '$T/r/strata.sock' http://localhost/v1/openapi.json | jq -e '.paths | has(\"/v1/projects\") and (has(\"/v1/firewalls\") | not)'"
t "metrics end as OpenMetrics wants" sh -c "curl -s --unix-socket '$T/r/strata.sock' http://localhost/metrics | tail -n 1 | grep -qx '# EOF'"
t_eq "changes are in the audit log" "$(jq -c 'select(.operation == "project_remove" and .path == "/v1/projects/lab") | .status' "$T/l/audit.jsonl")" 204
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
