#!/bin/bash
# create, start, state, exec, kill, pause, ps, events, update, delete, list; and run.
. "$SOURCE/tests/lib.sh"
. "$SOURCE/tests/oci/bundle.sh"

field() { "$PYTHON" -c "import json,sys; print(json.load(sys.stdin)['$1'])"; }
wait_status() { for _ in $(seq 100); do [ "$(oci state "$1" | field status)" = "$2" ] && return 0; sleep 0.02; done; return 1; }

b=$T/a
bundle "$b" "sh('sleep 100')"
t "create" oci create -b "$b" --pid-file "$T/pid" c1
t_eq "it is created" "$(oci state c1 | field status)" created
t_eq "the pid file holds its pid" "$(cat "$T/pid")" "$(oci state c1 | field pid)"
t_fails "the same id again" oci create -b "$b" c1
t_fails "start of none" oci start nonsuch
t "start" oci start c1
t_eq "it runs" "$(oci state c1 | field status)" running
t_fails "start twice" oci start c1
t_eq "exec gives the program's status" "$(oci exec c1 sh -c 'exit 7' </dev/null; echo $?)" 7
t_eq "exec is in the container" "$(oci exec c1 cat /proc/1/cmdline </dev/null | tr '\0' ' ')" "sleep 100 "
t_eq "exec takes variables, folder and user" \
	"$(oci exec -e A=b --cwd /tmp -u 5:6 c1 sh -c 'echo $A $PWD $(id -u) $(id -g)' </dev/null)" "b /tmp 5 6"
t_eq "a missing program has its words" \
	"$(oci exec c1 nosuch 2>&1 </dev/null | grep -c 'executable file not found in \$PATH')" 1
t_eq "ps sees one process" "$(oci ps -f json c1)" "[$(cat "$T/pid")]"
t "pause" oci pause c1
t_eq "it is paused" "$(oci state c1 | field status)" paused
t_eq "no exec in a paused container" "$(oci exec c1 true 2>&1 </dev/null | grep -c "in a paused container")" 1
t "resume" oci resume c1
t_eq "statistics count its process" \
	"$(oci events --stats c1 | "$PYTHON" -c 'import json,sys; print(json.load(sys.stdin)["data"]["pids"]["current"])')" 1
t "update" oci update --pids-limit 33 --memory 64M c1
t_eq "the new limit shows in the statistics" \
	"$(oci events --stats c1 | "$PYTHON" -c 'import json,sys; d=json.load(sys.stdin)["data"]; print(d["pids"]["limit"], d["memory"]["usage"]["limit"])')" \
	"33 67108864"
t_eq "list knows it" "$(oci list -q)" c1
t_fails "a running container is not deleted" oci delete c1
t "kill" oci kill c1 KILL
t "it stops" wait_status c1 stopped
t_fails "kill a stopped one" oci kill c1 KILL
t "delete" oci delete c1
t_fails "it is gone" oci state c1
t_eq "nothing is left" "$(leftovers)" ""

t "create again" oci create -b "$b" c2
t_fails "a created container is not deleted" oci delete c2
t "but with --force" oci delete --force c2
t "delete --force of a running one" eval 'oci run -d -b "$b" c3 >/dev/null 2>&1 && oci delete --force c3'
t "delete --force of none" oci delete --force c9
t_eq "nothing is left" "$(leftovers)" ""

cfg "$b" "sh('echo out; echo err >&2; exit 5')"
t_eq "run prints and returns what the program does" "$(oci run -b "$b" c4 2>/dev/null </dev/null; echo $?)" "out
5"
t_eq "nothing is left" "$(leftovers)" ""
cfg "$b" "sh('kill -9 \$\$'); no_ns('pid')"
t_eq "a signal becomes 128 and its number" "$(oci run -b "$b" c5 </dev/null; echo $?)" 137
cfg "$b" "sh('sleep 100')"
t "without a pid namespace all its processes die with delete --force" \
	eval 'oci run -d -b "$b" c6 >/dev/null 2>&1 && oci exec -d c6 sleep 99 </dev/null >/dev/null 2>&1 && oci delete --force c6'
t_eq "nothing is left" "$(leftovers)" ""
cfg "$b" "del c['process']"
t "create without a process" oci create -b "$b" c7
t_eq "start says what is missing" "$(oci start c7 2>&1)" "strata-oci: start: process: is missing, so there is nothing to start"
t_eq "it is still created" "$(oci state c7 | field status)" created
t "it goes" oci delete --force c7
t_fails "run without a process" oci run -b "$b" c7
bundle "$T/b" "sh('sleep 100')"
oci run -d -b "$T/b" c8 >/dev/null 2>&1 </dev/null
cat >"$T/ignore.py" <<'P'
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execvp(sys.argv[1], sys.argv[1:])
P
t_eq "a caller that ignores SIGCHLD gets the status of exec" \
	"$(timeout 60 "$PYTHON" "$T/ignore.py" strata-oci --root "$ROOT" exec c8 sh -c 'exit 7' </dev/null; echo $?)" 7
t "it goes, too" oci delete --force c8
bundle "$T/c" "no_ns('mount'); c['linux']['maskedPaths']=c['linux']['readonlyPaths']=[]; c['root']['readonly']=True
sh('test -c /dev/null && test -e /proc/self && ! touch /x 2>/dev/null && echo mounted')"
t_eq "mounts without a mount namespace are made" "$(oci run -b "$T/c" c9 </dev/null)" mounted
t_eq "and go with the container" "$(leftovers)" ""
t_fails "an id with a slash" oci create -b "$b" ../x
t_fails "a missing bundle" oci create -b "$T/none" c7
t_eq "nothing is left" "$(leftovers)" ""
done_testing
