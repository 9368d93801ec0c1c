#!/bin/bash
# Containers by the command line and the API: run, exec, logs, ports, names, limits, restart policies, health, changes while they run.
. "${SOURCE:?}/tests/node/lib.sh" || exit 1

t "the daemon starts" start_daemon || { cat "$T/log"; done_testing; exit 1; }
t "an image from a tarball" busybox_image
t_eq "run: output" "$(s run --rm bb:1 echo hi)" hi
t_eq "run: output and error output apart" "$(s run --rm bb:1 sh -c 'echo out; echo err >&2' 2>/dev/null)" out
s run --rm bb:1 sh -c 'exit 7'
t_eq "run: the exit status is the command's" $? 7
t_eq "run -i: input" "$(echo in | s run --rm -i bb:1 cat)" in
t_eq "run -i: three megabytes" "$(head -c 3000000 /dev/zero | s run --rm -i bb:1 wc -c)" 3000000
t_eq "run -t: a terminal" "$(script -qec 'timeout 60 strata run --rm -t bb:1 tty' /dev/null </dev/null | tr -d '\r')" /dev/pts/0
s run --name bad bb:1 /nonexistent 2>"$T/err"
t_eq "a command that is not there is a failure" $? 1
t "and named" grep -q "/nonexistent" "$T/err"
t_eq "and the instance is there, stopped" "$(state bad)" stopped
t "and removed" s rm bad
t_eq "-e, -u, -w, --hostname" "$(s run --rm -e A=b -u app -w /tmp --hostname h bb:1 sh -c 'echo $A $(id -u) $PWD $(hostname)')" "b 1000 /tmp h"
t_eq "root inside is nobody outside" "$(s run --rm bb:1 sh -c 'cat /proc/self/uid_map' | awk '{print $1, ($2 > 65535)}')" "0 1"
t_eq "-v: a directory of the host" "$(mkdir -p "$T/v"; s run --rm -v "$T/v:/v" bb:1 sh -c 'echo x >/v/f; id -u'; stat -c %u "$T/v/f")" "0
0"
t_eq "--disk is a quota" "$(s run --rm --disk 32M bb:1 sh -c 'dd if=/dev/zero of=/f bs=1M count=64 2>/dev/null || echo full')" full
t "-d" s run -d --name web -p 18080:80 bb:1 sh -c 'mkdir /w; echo page >/w/index.html; httpd -f -p 80 -h /w'
t_eq "a container reaches another by name" "$(until_ok s run --rm bb:1 wget -qO- http://web/; s run --rm bb:1 wget -qO- http://web/)" page
t_eq "a published port" "$(curl -s --max-time 10 http://127.0.0.1:18080/)" page
t_eq "exec" "$(s exec web cat /w/index.html)" page
s exec web sh -c 'exit 9'
t_eq "exec: the exit status" $? 9
t_eq "exec -i" "$(echo abc | s exec -i web cat)" abc
t "top shows the process" sh -c 'timeout 60 strata top web | grep -q httpd'
t "stats" sh -c 'timeout 60 strata stats --no-stream web | grep -q web'
t_eq "a name prefix of the id serves" "$(s inspect "$(s inspect web --format '{id}' | cut -c1-24)" --format '{name}')" web
t_fails "a running instance is not removed" s rm web
t "pause" s pause web
t_eq "is paused" "$(state web)" paused
t "resume" s resume web
t "rename" s rename web site
t_eq "the new name" "$(state site)" running
t_eq "the name in DNS is the new one" "$(until_ok s run --rm bb:1 wget -qO- http://site/; s run --rm bb:1 wget -qO- http://site/)" page
t "stop" s stop -t 1s site
t_eq "is stopped" "$(state site)" stopped
t "start" s start site
t "restart" s restart -t 1s site
t_eq "runs" "$(state site)" running
t "kill" s kill site
t "its end is waited for" until_ok sh -c '[ "$(timeout 60 strata inspect site --format "{status.state}")" = stopped ]'
t_eq "killed: 137" "$(s inspect site --format '{status.exit_code}')" 137
t "rm" s rm site
t_eq "logs" "$(s run -d --name l bb:1 sh -c 'echo 1; echo 2; echo 3 >&2' >/dev/null; until_ok sh -c '[ "$(timeout 60 strata inspect l --format "{status.state}")" = stopped ]'; s logs l | sort | tr '\n' ' ')" "1 2 3 "
t_eq "logs --tail" "$(s logs --tail 1 l | wc -l)" 1
t "rm" s rm l
t_eq "logs -f ends with the instance" "$(s run -d --name f bb:1 sh -c 'echo a; sleep 0.5; echo b' >/dev/null; s logs -f f | tr '\n' ' ')" "a b "
s rm --force f >/dev/null

create() { post "/v1/instances?start=true&wait=60s" "$1" | jq -e '.state == "succeeded"' >/dev/null; }
t "restart policy: on-failure, twice" create '{"name":"r","spec":{"image":"bb:1","command":["false"],"restart":{"mode":"on-failure","max_retries":2,"delay":"0s"}}}'
restarts() { [ "$(s inspect r --format '{status.restarts} {status.state}')" = "2 stopped" ]; }
t "it gives up after two restarts" until_ok restarts
t "rm" s rm --force r
t "health: a check that passes" create '{"name":"h","spec":{"image":"bb:1","command":["sleep","1000"],"health":{"command":["true"],"interval":"100ms"}}}'
t "healthy" until_ok sh -c '[ "$(timeout 60 strata inspect h --format "{status.health}")" = healthy ]'
t "memory changes while it runs" sh -c "curl -sf --max-time 60 --unix-socket '$T/r/d/strata.sock' -X PATCH -H 'Content-Type: application/json' 'http://localhost/v1/instances/h?wait=60s' -d '{\"spec\":{\"memory\":{\"size\":67108864}}}' | jq -e '.state == \"succeeded\"'"
t_eq "and the kernel knows" "$(i=$(s inspect h --format '{id}'); cat /sys/fs/cgroup/memory/strata/$i/memory.limit_in_bytes /sys/fs/cgroup/strata/$i/memory.max 2>/dev/null)" 67108864
t_fails "what cannot change while it runs is refused" api /v1/instances/h -X PATCH -H 'Content-Type: application/json' -d '{"spec":{"tty":true}}'
t "rm --force" s rm --force h
t "out of memory is told" create '{"name":"o","spec":{"image":"bb:1","memory":{"size":"8M"},"command":["sh","-c","x=0123456789; while true; do x=$x$x; done"]}}'
t "it ended by it" until_ok sh -c '[ "$(timeout 60 strata inspect o --format "{status.oom_killed}")" = true ]'
t "rm" s rm o

t "a network" s network create back
t_eq "two interfaces" "$(s run --rm --net default --net back bb:1 sh -c 'ip -o -4 addr | wc -l')" 3
t_eq "no network" "$(s run --rm --net none bb:1 sh -c 'ip -o link | wc -l')" 1
t "the network goes" until_ok s network rm back
t "a volume" s volume create data 64M
t_eq "a container writes to it" "$(s run --rm -v data:/d bb:1 sh -c 'echo kept >/d/f; echo ok')" ok
t_eq "the next one reads it" "$(s run --rm -v data:/d bb:1 cat /d/f)" kept
t "the volume goes" until_ok s volume rm data
none_left() { [ -z "$(s ps -a -o name)" ]; }
t "what was run with --rm is gone" until_ok none_left
t_eq "no files are left" "$(find "$T/s/instances" "$T/r/d/instances" "$T/l/instances" -mindepth 1)" ""
t_eq "no mounts are left" "$(grep "$T" /proc/mounts | grep -v " $T/r ")" ""
t_eq "no monitors are left" "$(shims)" ""
t "it stops" stop_daemon
pid=
t_eq "it said nothing bad" "$(grep -c ' error ' "$T/log")" 0
done_testing
