#!/bin/bash
# Who may do what: the socket's group, HTTPS with tokens and client certificates, roles, projects, the audit log; the configuration file.
. "$SOURCE/tests/lib.sh"
requires root cmd:curl cmd:jq cmd:openssl cmd:setpriv

read -r port mport < <(python3 -c '
import socket
a, b = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
print(a.getsockname()[1], b.getsockname()[1])')
group=$(getent group | awk -F: '$3 > 0 && $4 == "" {print $1; exit}')
gid=$(getent group "$group" | cut -d: -f3)
cat >"$T/stratad.yaml" <<YAML
# what the tests need
name: node-a
state: $T/s
run: $T/r
group: $group
log:
  level: info
  directory: $T/l
https:
  listen: 127.0.0.1:$port
metrics:
  listen: 127.0.0.1:$mport
YAML
start() {
	setsid stratad --config "$T/stratad.yaml" 2>>"$T/log" </dev/null &
	pid=$!
	at_exit "kill $pid 2>/dev/null; wait $pid 2>/dev/null"
	for _ in $(seq 200); do strata version >/dev/null 2>&1 && return; kill -0 $pid 2>/dev/null || return 1; sleep 0.05; done
	return 1
}
mistake() { # LINE: what stratad says about a configuration with it
	{ cat "$T/stratad.yaml"; echo "$1"; } >"$T/bad.yaml"
	timeout 10 stratad --config "$T/bad.yaml" 2>&1 </dev/null | head -n 1
}
t_eq "configuration: an unknown field is refused with its path" "$(mistake 'grup: x')" "stratad: $T/bad.yaml: stratad.grup: unknown field; did you mean 'group'?"
t_eq "a value that breaks a rule too" "$(mistake 'limits: {body: 1}')" "stratad: $T/bad.yaml: stratad.limits.body: 1 is below the minimum 4K"
t_eq "a file that is not there is said so" "$(timeout 10 stratad --config "$T/none" 2>&1 </dev/null | grep -c "$T/none.*No such file")" 1
t_eq "a log level that is none" "$(timeout 10 stratad --config "$T/stratad.yaml" --log-level loud 2>&1 </dev/null | grep -c loud)" 1

export STRATA_SERVER=unix:$T/r/strata.sock
t "it starts by its configuration" start || { cat "$T/log"; done_testing; exit 1; }
t_eq "under its name" "$(strata host ls -o name)" node-a
t_eq "the socket is the group's" "$(stat -c '%G %a' "$T/r/strata.sock")" "$group 660"
chmod 755 "$T" "$T/r"
as() { timeout 20 setpriv --reuid 12345 --regid "$1" --clear-groups curl -s -o /dev/null -w '%{http_code}' --unix-socket "$T/r/strata.sock" http://localhost/v1; }
t_eq "who is in the group may use it" "$(as "$gid")" 200
t_eq "who is not may not" "$(as 12345)" 000

url=https://127.0.0.1:$port
ca=$T/s/https/cert.pem
https() { timeout 20 curl -s --cacert "$ca" "$@"; }
code() { https -o /dev/null -w '%{http_code}' "$@"; }
t "a certificate was made for HTTPS" openssl x509 -in "$ca" -noout -checkend 86400
t_eq "its key is root's alone" "$(stat -c %a "$T/s/https/key.pem")" 600
t_eq "nobody is let in without telling who" "$(code "$url/v1/hosts")" 401
t_eq "and is told what is wanted" "$(https "$url/v1/hosts" | jq -r '.error.id')" auth.required
t_eq "the description is for everybody" "$(code "$url/v1/openapi.json")" 200

strata project create red >/dev/null
strata project create blue >/dev/null
admin=$(strata token create boss --role admin)
viewer=$(strata token create eye)
operator=$(strata token create hand --role operator --for-project red --expires 1h)
with() { local token=$1; shift; code -H "Authorization: Bearer $token" "$@"; }
post=(-H 'Content-Type: application/json' -d)
t_eq "a token lets in" "$(with "$viewer" "$url/v1/hosts")" 200
t_eq "a wrong one does not" "$(with "${viewer%?}x" "$url/v1/hosts")" 401
t_eq "a viewer looks only" "$(with "$viewer" "$url/v1/projects" "${post[@]}" '{"name":"x"}')" 403
t_eq "an administrator may" "$(with "$admin" "$url/v1/projects" "${post[@]}" '{"name":"green"}')" 201
t_eq "an operator runs no host" "$(with "$operator" "$url/v1/projects" "${post[@]}" '{"name":"x"}')" 403
t_eq "and stays in its project" "$(with "$operator" "$url/v1/networks?project=blue")" 403
t_eq "there it may look" "$(with "$operator" "$url/v1/networks?project=red")" 200
t_eq "every project is not its own" "$(with "$operator" "$url/v1/networks?all_projects=on")" 403
t_eq "events of others are not shown" "$(https -H "Authorization: Bearer $operator" "$url/v1/events" | wc -l)" 0
t_eq "who am I" "$(https -H "Authorization: Bearer $operator" "$url/v1" | jq -c '[.user, .role]')" '["token:hand","operator"]'
t_eq "a list does not show secrets" "$(strata token ls -o json | jq '[.[] | has("secret") or has("hash")] | any')" false
t_eq "nor do the events and logs" "$(strata event ls -o json | cat - "$T/log" "$T"/l/*.jsonl | grep -c "${admin#strata_}")" 0
t_eq "last use is noted" "$(strata token ls -o json | jq '.[] | select(.name == "hand") | has("last_used")')" true
strata token create past --expires 2020-01-01T00:00:00Z >"$T/past"
t_eq "an expired one is told so" "$(https -H "Authorization: Bearer $(cat "$T/past")" "$url/v1/hosts" | jq -r .error.id)" auth.expired
strata token rm eye
t_eq "a removed one is not known" "$(with "$viewer" "$url/v1/hosts")" 401
echo "$admin" >"$T/token"
t_eq "strata itself comes by HTTPS" "$(timeout 20 strata -H "$url" --ca "$ca" --token-file "$T/token" host ls -o name)" node-a
t_eq "and does not trust anybody" "$(timeout 20 strata -H "$url" --token-file "$T/token" host ls >/dev/null 2>&1; echo $?)" 1

key() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1" -days 2 -keyout "$T/$1.key" -out "$T/$1.pem" 2>/dev/null; }
key alice
key mallory
t_eq "a client certificate is made known" "$(strata certificate add alice "$T/alice.pem" --role operator)" alice
t_eq "but not twice" "$(strata certificate add again "$T/alice.pem" 2>&1)" "strata certificate add: this certificate is 'alice' already"
t_eq "what is none is refused" "$(strata certificate add bad "$T/token" 2>&1 | grep -c 'not a certificate in PEM form')" 1
cert() { code --cert "$T/$1.pem" --key "$T/$1.key" "${@:2}"; }
lets_in() { for _ in $(seq 100); do [ "$(cert alice "$url/v1/hosts")" = 200 ] && return; sleep 0.05; done; return 1; }
t "it lets in" lets_in
t_eq "as whom it was made known" "$(https --cert "$T/alice.pem" --key "$T/alice.key" "$url/v1" | jq -c '[.user, .role]')" '["certificate:alice","operator"]'
t_eq "another does not" "$(cert mallory "$url/v1/hosts")" 401

t_eq "metrics have an address of their own" "$(timeout 20 curl -s "http://127.0.0.1:$mport/metrics" | tail -n 1)" "# EOF"
t_eq "with nothing else" "$(timeout 20 curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$mport/v1/hosts")" 404

last() { jq -c "select($1) | [.user, .operation, .status]" "$T/l/audit.jsonl" | tail -n 1; }
t_eq "audit: who made what" "$(last '.path == "/v1/projects" and .status == 201 and .from == "127.0.0.1"')" '["token:boss","project_create",201]'
t_eq "who was refused" "$(last '.status == 403 and .operation == "network_list"')" '["token:hand","network_list",403]'
t_eq "by the socket too" "$(last '.operation == "token_remove"')" '["uid:0","token_remove",204]'
t_eq "reading is not in it" "$(grep -c '"operation":"host_list","status":200' "$T/l/audit.jsonl")" 0

sed -i "/^https:/,/listen:/d; s/level: info/level: warn/" "$T/stratad.yaml"
kill -HUP $pid
closed() { for _ in $(seq 100); do [ "$(code "$url/v1/openapi.json")" = 000 ] && return; sleep 0.05; done; return 1; }
t "SIGHUP: HTTPS off" closed
echo 'nonsense: 1' >>"$T/stratad.yaml"
kill -HUP $pid
said() { for _ in $(seq 100); do grep -q 'not read again.*nonsense' "$T/log" && return; sleep 0.05; done; return 1; }
t "SIGHUP: a mistake is named and changes nothing" said
t_eq "it goes on" "$(strata host ls -o name)" node-a
kill $pid
wait $pid
t_eq "it stops with status 0" $? 0
done_testing
