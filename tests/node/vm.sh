#!/bin/bash
# VMs of the daemon: from an OCI image beside a container on one network, with a volume and a disk; stop, kill of its monitor,
# what a killed daemon finds again, and that nothing stays behind.
. "$SOURCE/tests/lib.sh"
requires root cmd:qemu-system-x86_64 cmd:mkfs.erofs cmd:mke2fs cmd:busybox cmd:strata-image cmd:curl cmd:jq

mkdir -p "$T/root"/{bin,etc,tmp,proc,sys,dev,data} "$T/s"
cp "$(command -v busybox)" "$T/root/bin/busybox"
for a in sh cat echo nc sleep sync wc; do ln -s busybox "$T/root/bin/$a"; done
echo 'root:x:0:0::/root:/bin/sh' >"$T/root/etc/passwd"
tar -C "$T/root" -cf "$T/root.tar" .
image() { strata-image --store "$T/s/images" -q "$@"; }
image import "$T/root.tar" --name bb:1 --cmd /bin/sh >/dev/null || skip_all "cannot import an image"
image kernel-install >/dev/null 2>"$T/err" || skip_all "no guest kernel: $(tail -n 1 "$T/err")"

daemon() {
	stratad --state-dir "$T/s" --run-dir "$T/r" --log-dir "$T/l" 2>>"$T/log" &
	pid=$!
	for _ in $(seq 200); do
		[ -S "$T/r/strata.sock" ] && api /v1/host >/dev/null && return
		kill -0 $pid 2>/dev/null || return 1
		sleep 0.05
	done
	return 1
}
api() { curl -s --max-time 150 --unix-socket "$T/r/strata.sock" "http://localhost$1" "${@:2}"; }
post() { api "$1" -X POST -H 'Content-Type: application/json' -d "${2:-{\}}"; }
task() { post "$@" | jq -r 'if .state == "succeeded" then "ok" else (.error.message // .state // "no answer") end'; }
make() { task "/v1/$1?wait=60s" "$2"; }
show() { api "/v1/instances/$1" | jq -r "$2"; }
until_is() { # until_is INSTANCE FILTER VALUE
	for _ in $(seq 300); do
		[ "$(show "$1" "$2")" = "$3" ] && return
		sleep 0.1
	done
	echo "$2 of $1 is $(show "$1" "$2")" | diag
	return 1
}
at_exit 'kill -9 $pid $(pgrep -f "guest=.*$T/r/instances") 2>/dev/null'

t "it starts" daemon || { diag <"$T/log"; done_testing; exit 1; }
t_eq "a volume" "$(make volumes '{"name":"data","spec":{"size":67108864,"format":"raw","filesystem":"ext4"}}')" ok
t_eq "a VM is made" "$(make instances '{"name":"vm1","spec":{"kind":"vm","image":"bb:1","memory":{"size":201326592},
	"command":["/bin/sh","-c","echo $(cat /data/count | wc -c); echo x >>/data/count; sync; trap \"exit 42\" TERM; while :; do echo served | nc -l -p 80; done & while :; do sleep 0.2; done"],
	"mounts":[{"type":"volume","source":"data","target":"/data"}],"disks":[{"size":16777216}]}}')" ok
t_eq "and starts" "$(task '/v1/instances/vm1/start?wait=120s')" ok
t_eq "its engine says why" "$(show vm1 '.status.engine_reason | length > 5')" true
t_eq "a container on the same network" "$(make instances '{"name":"c1","spec":{"kind":"container","image":"bb:1",
	"command":["/bin/sh","-c","for i in 1 2 3 4 5 6 7 8 9 10; do nc -w 5 vm1 80 </dev/null && break; sleep 1; done; exit 7"]}}')" ok
t_eq "starts, too" "$(task '/v1/instances/c1/start?wait=60s')" ok
t "and ends" until_is c1 .status.state stopped
t "it reached the VM by name" grep -q served "$T/l/instances/$(show c1 .id).log"
t_eq "a volume that a VM has is not mounted for a container" "$(make instances '{"name":"c2","spec":{"kind":"container","image":"bb:1",
	"mounts":[{"type":"volume","source":"data","target":"/data"}]}}'; task '/v1/instances/c2/start?wait=60s' | grep -o 'in use by a VM')" \
	"$(printf 'ok\nin use by a VM')"
kill -9 $pid
wait $pid 2>/dev/null
t "after a kill -9 the daemon starts again" daemon
t_eq "and finds the VM running" "$(show vm1 .status.state)" running
t_eq "pause" "$(task '/v1/instances/vm1/pause?wait=60s')" ok
t_eq "resume" "$(task '/v1/instances/vm1/resume?wait=60s')" ok
group() { cat /sys/fs/cgroup/{cpu,cpu,cpuacct,.}/strata/$(show vm1 .id)/{cpu.cfs_quota_us,cpu.max} 2>/dev/null | head -n 1 | cut -d' ' -f1; }
if [ -n "$(group)" ]; then
	t_eq "a CPU limit, while it runs" "$(api /v1/instances/vm1 -X PATCH -H 'Content-Type: application/merge-patch+json' \
		-d '{"spec":{"cpu":{"limit":0.5}}}' >"$T/patch"; for _ in $(seq 50); do [ "$(group)" = 50000 ] && break; sleep 0.1; done; group)" 50000
fi
t_eq "stop" "$(task '/v1/instances/vm1/stop?wait=60s')" ok
t_eq "its command had its say" "$(show vm1 .status.exit_code)" 42
t_eq "it starts again" "$(task '/v1/instances/vm1/start?wait=120s')" ok
said() { # said INSTANCE PATTERN: its log has such a line, soon
	for _ in $(seq 300); do
		grep -qE "$2" "$T/l/instances/$(show "$1" .id).log" && return
		sleep 0.1
	done
	return 1
}
t "and finds what it wrote on its volume" said vm1 'stdout F 2$'
kill -9 "$(jq .pid "$T/r/instances/$(show vm1 .id)/vm.json")"
t "a VM whose monitor is killed has stopped" until_is vm1 .status.state stopped
for i in vm1 c1 c2; do
	t_eq "$i is removed" "$(api "/v1/instances/$i?wait=60s" -X DELETE | jq -r .state)" succeeded
done
t_eq "nothing is left of them" "$(find "$T/s/instances" "$T/r/instances" -mindepth 1 | head -n 5)" ""
t_eq "no process either" "$(pgrep -f "$T/r/instances" | wc -l)" 0
kill $pid
wait $pid
t_eq "the daemon ends" $? 0
done_testing
