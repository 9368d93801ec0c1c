#!/bin/bash
# The command line against a daemon: output forms, errors, exit statuses, doctor.
. "$SOURCE/tests/lib.sh"
requires root cmd:jq

stratad --state-dir "$T/s" --run-dir "$T/r" --log-dir "$T/l" 2>"$T/log" &
pid=$!
at_exit "kill $pid 2>/dev/null; wait $pid 2>/dev/null"
export STRATA_SOCKET=$T/r/strata.sock
for _ in $(seq 100); do [ -S "$STRATA_SOCKET" ] && break; sleep 0.05; done

err_of() { timeout 20 "$@" 2>&1 >/dev/null | head -n 1; }
status_of() { timeout 20 "$@" >/dev/null 2>&1; echo $?; }

t "help lists the commands" sh -c "strata --help | grep -q 'task ls'"
t_eq "without a command the status is 2" "$(status_of strata)" 2
t_eq "a near miss is offered" "$(err_of strata tsk ls)" "strata: 'tsk ls' is no command; did you mean 'task ls'?"
t_eq "a wrong option is a usage error" "$(status_of strata host --nope)" 2
t_eq "a failure has status 1" "$(status_of strata task show nothing)" 1
t_eq "and says what failed and why" "$(err_of strata task show nothing)" "strata task show: there is no task 'nothing'"
t_eq "no daemon: what to do is said" "$(err_of strata --socket "$T/none" host)" \
	"strata host: no daemon answers on '$T/none': is stratad running? ('systemctl start stratad', or 'make up')"
t_eq "JSON for programs" "$(strata host -o json | jq -r .status.architecture)" x86_64
t_eq "YAML by default for one object" "$(strata host | grep -c '^  architecture: x86_64')" 1
t_eq "an empty table has its headings" "$(strata task ls | head -n 1)" "ID  ACTION  STATE  %  AGE  ERROR"
t_eq "options may stand before the command" "$(strata -o json task ls)" "[]"
t "doctor answers in a moment" timeout 20 strata doctor -o json
t_eq "doctor names the engine with its reason" \
	"$(strata doctor -o json | jq -r '.[] | select(.id == "engine").message' | grep -cE '^engine auto means (native|qemu): .+')" 1
t_eq "every lack says how to get it" "$(strata doctor -o json | jq '[.[] | select(.result != "ok" and .fix == null)] | length')" 0
t_eq "events can be followed" "$(timeout 5 strata event --since 0 -n 1 -o json 2>/dev/null | wc -l)" 1
done_testing
