#!/bin/bash
# kill -9 of the daemon at every step of making, starting, stopping and removing an instance: the next daemon finishes or undoes
# it, and nothing is left over; a daemon that comes back finds what runs.
. "${SOURCE:?}/tests/node/lib.sh" || exit 1

left() { # what there should not be
	find "$T/s/instances" "$T/r/d/instances" -mindepth 1 2>/dev/null
	find "$T/r/d/oci" -mindepth 1 -maxdepth 1 ! -name '.*' 2>/dev/null
	grep "$T" /proc/mounts | grep -v " $T/r "
	shims
	for i in $(ids); do ls -d /sys/fs/cgroup/*/strata/"$i" /sys/fs/cgroup/strata/"$i" 2>/dev/null; done
	for n in $(ip netns list | awk '{print $1}'); do ip -n "$n" -o link | grep -o ' sn[0-9a-f]*'; done
}
none_left() { [ -z "$(left)" ]; }
died() { for _ in $(seq 600); do kill -0 $pid 2>/dev/null || return 0; sleep 0.05; done; return 1; }
no_tasks() { ! api /v1/tasks | jq -e '.items[] | select(.state == "running" or .state == "queued")'; }
settled() { # the instance runs or is gone; then it is removed
	case $(state x) in
	running) s rm --force x && state x; return 0 ;;
	stopped) s rm x; return 0 ;;
	esac
	! state x
}
spec='{"name":"x","spec":{"image":"bb:1","command":["sleep","1000"],"ports":[{"host":18080,"guest":80}]}}'

t "the daemon starts" start_daemon || { cat "$T/log"; done_testing; exit 1; }
t "an image" busybox_image
stop_daemon

for point in instance.make instance.begin instance.start instance.mount instance.prepare instance.network instance.ports \
	instance.run instance.started; do
	start_daemon "STRATA_FAULT=$point:1:kill" || diag <"$T/log"
	post "/v1/instances?start=true&wait=30s" "$spec" >/dev/null 2>&1
	t "create dies at $point" died
	wait $pid 2>/dev/null
	t "the next daemon starts" start_daemon
	t "its tasks end" until_ok no_tasks
	settled >/dev/null 2>&1
	t "nothing is left" until_ok none_left || left | diag
	stop_daemon
done
for point in instance.kill instance.clean instance.cleaned instance.files instance.forget; do
	start_daemon "STRATA_FAULT=$point:1:kill" || diag <"$T/log"
	post "/v1/instances?start=true&wait=30s" "$spec" >/dev/null 2>&1
	api "/v1/instances/x?force=true&wait=30s" -X DELETE >/dev/null 2>&1
	t "remove dies at $point" died
	wait $pid 2>/dev/null
	t "the next daemon starts" start_daemon
	gone() { ! api /v1/instances/x; }
	t "it finishes the removal" until_ok gone
	t "nothing is left" until_ok none_left || left | diag
	stop_daemon
done

start_daemon
spec='{"name":"x","spec":{"image":"bb:1","command":["sh","-c","echo page >/tmp/index.html; httpd -f -p 80 -h /tmp"],"ports":[{"guest":80}]}}'
post "/v1/instances?start=true&wait=30s" "$spec" >/dev/null
page() { [ "$(curl -s --max-time 5 "http://127.0.0.1:$(s inspect x --format '{status.ports.0.host}')/")" = page ]; }
t "its published port leads to it" until_ok page
: >"$T/log"
inside=$(s inspect x --format '{status.pid}')
kill -9 $pid
wait $pid 2>/dev/null
t "the container outlives the daemon" kill -0 "$inside"
t "the daemon comes back" start_daemon
t_eq "and finds it" "$(s inspect x --format '{status.state} {status.pid}')" "running $inside"
t_eq "and reaches into it" "$(s exec x echo there)" there
t "its published port leads to it still" until_ok page
t_eq "a new instance finds it by name" "$(until_ok s run --rm bb:1 wget -qO- http://x/; s run --rm bb:1 wget -qO- http://x/)" page
t_eq "nothing is wrong with its network" "$(grep ' error ' "$T/log")" ""
kill -9 $pid
wait $pid 2>/dev/null
kill -9 "$inside"
t "the daemon comes back" start_daemon
t_eq "it learns how it ended meanwhile" "$(until_ok sh -c '[ "$(timeout 60 strata inspect x --format "{status.state}")" = stopped ]'; s inspect x --format '{status.exit_code}')" 137
kill -9 $pid
wait $pid 2>/dev/null
start_daemon
s start x
shims | xargs kill -9
t "a killed monitor is an end" until_ok sh -c '[ "$(timeout 60 strata inspect x --format "{status.state}")" = stopped ]'
t "rm" s rm x
t "nothing is left" until_ok none_left || left | diag
stop_daemon
pid=
done_testing
