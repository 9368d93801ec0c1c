#!/bin/bash
# The command line against a daemon: output forms, errors, exit statuses, doctor.
. "$SOURCE/tests/lib.sh"
requires root cmd:jq

stratad --state-dir "$T/s" --run-dir "$T/r" --log-dir "$T/l" 2>"$T/log" &
pid=$!
at_exit "kill $pid 2>/dev/null; wait $pid 2>/dev/null"
export STRATA_SERVER=unix:$T/r/strata.sock
for _ in $(seq 100); do [ -S "$T/r/strata.sock" ] && break; sleep 0.05; done

err_of() { timeout 20 "$@" 2>&1 >/dev/null | head -n 1; }
status_of() { timeout 20 "$@" >/dev/null 2>&1; echo $?; }

t "help lists the commands" sh -c "strata --help | grep -q '^  task'"
t "and those of a group" sh -c "strata help task | grep -q '^  wait'"
t "with examples for each" sh -c "strata project create --help | grep -q '^  strata project create lab'"
t_fails "what the daemon does not serve is not there" sh -c "strata --help | grep -q '^  suspend '"
t_eq "without a command the status is 2" "$(status_of strata)" 2
t_eq "a near miss is offered" "$(err_of strata tsk ls)" "strata: tsk: unknown command; did you mean 'task'?"
t_eq "a wrong flag is a usage error" "$(status_of strata host ls --nope)" 2
t_eq "a failure has status 1" "$(status_of strata task show nothing)" 1
t_eq "and says what failed and why" "$(err_of strata task show nothing)" "strata task show: there is no task 'nothing'"
t_eq "no daemon: what to do is said" "$(err_of strata -H "unix:$T/none" host ls)" \
	"strata host ls: no daemon answers on '$T/none': is stratad running? ('systemctl start stratad', or 'make up')"
t_eq "JSON for programs" "$(strata host show -o json | jq -r .status.architecture)" x86_64
t_eq "YAML by default for one object" "$(strata host show | grep -c '^  architecture: x86_64')" 1
t_eq "an empty table has its headings" "$(strata task ls | head -n 1)" "ID  ACTION  OBJECT  STATE  STAGE  CREATED  ERROR"
t_eq "flags may stand before the command" "$(strata -P default task ls -o json)" "[]"

t_eq "an object is made, its name printed" "$(strata project create lab --cpus 16 --memory 32G)" lab
t_eq "its flags are in its spec" "$(strata project show lab -o json | jq -c .spec.quota)" '{"cpus":16,"memory":34359738368}'
t_eq "a rule names the flag" "$(err_of strata project create bad --cpus -1)" "strata project create: --cpus: -1 is below the minimum 0"
t_eq "an error of the daemon comes with path and rule" "$(err_of strata project create Bad)" \
	"strata project create: project.name: 'Bad' is not a project name of lower-case letters, digits and '-'"
t "it is changed by flags and fields" strata project set lab --memory 64G description=mine labels.team=a
t_eq "both are there" "$(strata project show lab --format '{quota.memory} {description} {labels.team}')" "68719476736 mine a"
t_eq "nothing to change is a usage error" "$(status_of strata project set lab)" 2
id=$(strata project ls -q | tail -n 1)
t_eq "a prefix of the id does" "$(strata project show "${id:0:35}" -o name)" lab
strata project create lab2 >/dev/null
t_eq "names only" "$(strata project ls -o name | tr '\n' ' ')" "default lab lab2 "
t_eq "wide tables have more columns" "$(strata project ls -o wide | head -n 1 | grep -c ID)" 1
t_eq "sizes are for people" "$(strata project ls --no-headers | grep -c '^lab .* 0 ')" 1
t_eq "several at once: what can be done is done" "$(strata project rm lab nope lab2 2>&1; echo $?)" \
	"strata project rm: there is no project 'nope'
1"
t_eq "they are gone" "$(strata project ls -o name)" default
t_eq "a hint says what to do" "$(strata project rm default 2>&1 | tail -n 1)" "hint: set protected=false first"
t_eq "events tell of it" "$(strata event ls -t 'project.created' --format '{object.name}' | tr '\n' ' ')" "default lab lab2 "
t_eq "as JSON lines on a stream" "$(timeout 1 strata event watch -o json; strata event ls -n 1 -o json | jq -r '.[0].type')" project.deleted
t_eq "completion: commands" "$(strata __complete pro)" project
t_eq "completion: names" "$(strata __complete project show '')" default
t_eq "completion: values" "$(strata __complete task ls --state s)" succeeded
t_eq "completion: flags" "$(strata __complete project create --me)" --memory
t "versions of both" sh -c "strata version | grep -q '^daemon '"

t "doctor answers in a moment" timeout 20 strata doctor -o json
t_eq "doctor names the engine with its reason" \
	"$(strata doctor -o json | jq -r '.[] | select(.id == "engine").message' | grep -cE '^engine auto means (native|qemu): .+')" 1
t_eq "every lack says how to get it" "$(strata doctor -o json | jq '[.[] | select(.result != "ok" and .fix == null)] | length')" 0
done_testing
