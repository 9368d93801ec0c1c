#!/bin/bash
# podman and buildah with strata-oci as their runtime: the life of a container, exec, logs, statistics, pause, update, kill, health
# checks, a build.  STRATA_LONG=1: pods, too (podman on hybrid cgroups trips over its own folders when the machine is busy).
. "$SOURCE/tests/lib.sh"
. "$SOURCE/tests/oci/bundle.sh"
requires cmd:podman cmd:conmon
bundle "$T/img" # for its root
mkdir -p "$T"/img/rootfs/{home/user,usr}
ln -sf busybox "$T/img/rootfs/bin/rm"
chmod 1777 "$T/img/rootfs/tmp"
oci_path=$(command -v strata-oci)
opts=(--root "$T/root" --runroot "$T/runroot" --tmpdir "$T/tmp" --storage-driver vfs --runtime "$oci_path" --cgroup-manager cgroupfs --events-backend file)
pod() { timeout 120 podman "${opts[@]}" "$@" </dev/null; }
at_exit 'pod kill -a >/dev/null 2>&1; pod rm -fa -t 0 >/dev/null 2>&1; pod pod rm -fa -t 0 >/dev/null 2>&1; rm -rf "$T/root" 2>/dev/null'

tar -C "$T/img/rootfs" -cf "$T/img.tar" .
t "import an image" pod import -q "$T/img.tar" bb:1 || { done_testing; exit 1; }
t_eq "podman knows the runtime" "$(pod info --format '{{.Host.OCIRuntime.Name}}')" "$oci_path"
run=(run --network none --cgroups enabled)
t_eq "run --rm: output and status" "$(pod "${run[@]}" --rm bb:1 sh -c 'echo out; exit 7'; echo $?)" "out
7"
t_eq "user, variables, folder, hostname" \
	"$(pod "${run[@]}" --rm -u 1000 -e A=b -w /tmp --hostname h1 bb:1 sh -c 'echo $(id -u) $A $PWD $(hostname)')" "1000 b /tmp h1"
t_eq "a command that is not there is 127" "$(pod "${run[@]}" --rm bb:1 nosuch >/dev/null 2>&1; echo $?)" 127
t_eq "a command that cannot run is 126" "$(pod "${run[@]}" --rm bb:1 /etc >/dev/null 2>&1; echo $?)" 126
t_eq "volumes and tmpfs" "$(echo v >"$T/v"; pod "${run[@]}" --rm -v "$T/v:/v:ro" --tmpfs /t bb:1 sh -c 'cat /v; echo x >/t/x && cat /t/x; echo y >/v' 2>/dev/null; echo $?)" "v
x
1"
t "run -d" pod "${run[@]}" -d --name c1 --memory 64m --pids-limit 50 bb:1 sh -c 'echo started; echo problem >&2; while :; do sleep 1; done'
t_eq "logs" "$(for _ in $(seq 600); do pod logs c1 2>&1 | grep -q problem && break; sleep 0.1; done; pod logs c1 2>&1 | sort | tr '\n' ' ')" "problem started "
t_eq "exec: output and status" "$(pod exec c1 sh -c 'echo in; exit 3'; echo $?)" "in
3"
t_eq "exec -t has a terminal" "$(pod exec -t c1 tty | tr -d '\r')" /dev/pts/0
t_eq "exec as a user" "$(pod exec -u 1000:1000 c1 id -u)" 1000
t_eq "stats" "$(pod stats --no-stream --format '{{.Name}}' c1)" c1
t_eq "top" "$(pod top c1 args | sed -n '2s/ *$//p')" "sh -c echo started; echo problem >&2; while :; do sleep 1; done"
t "pause" pod pause c1
t_eq "it is paused" "$(pod inspect --format '{{.State.Status}}' c1)" paused
t "unpause" pod unpause c1
t "update" pod update --memory 80m c1
cgroup=$(pod inspect --format '{{.State.CgroupPath}}' c1)
t_eq "the kernel has the new limit" "$(cat /sys/fs/cgroup/memory"$cgroup"/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup"$cgroup"/memory.max)" 83886080
t "kill" pod kill -s KILL c1
t_eq "wait gives the status" "$(pod wait c1)" 137
t "start again" pod start c1
t "restart" pod restart -t 0 c1
t "rm -f" pod rm -f -t 0 c1
t "a health check that is well" eval 'pod "${run[@]}" -d --name h1 --health-cmd "test -e /etc/passwd" --health-interval disable bb:1 sleep 1000 && pod healthcheck run h1'
pod exec h1 rm /etc/passwd
t_fails "and one that is not" pod healthcheck run h1
t "rm" pod rm -f -t 0 h1
mkdir -p "$T/ctx"
printf 'FROM bb:1\nENV X=built\nRUN echo $X >/made && id -u >>/made\nUSER 1000\nRUN id -u >/tmp/u\nCMD ["sh", "-c", "cat /made /tmp/u"]\n' >"$T/Dockerfile"
t "build (buildah's RUN through the runtime)" pod build -q --isolation oci --network none -t built:1 -f "$T/Dockerfile" "$T/ctx"
t_eq "what was built runs" "$(pod "${run[@]}" --rm built:1 | tr '\n' ' ')" "built 0 1000 "
if [ -n "${STRATA_LONG-}" ]; then
	t "a pod" pod pod create --name p1 --infra-image bb:1 --infra-command "sleep 1000" --network none
	t_eq "with two containers" "$(pod run -d --pod p1 bb:1 sleep 1000 >/dev/null && pod run -d --pod p1 bb:1 sleep 1000 >/dev/null && pod pod inspect --format '{{.NumContainers}}' p1)" 3
	t_eq "which share a host name and a network namespace" "$(for c in $(pod ps -q --filter pod=p1); do pod exec "$c" sh -c 'hostname; readlink /proc/self/ns/net'; done | sort -u | wc -l)" 2
	t "pod pause" pod pod pause p1
	t "pod unpause" pod pod unpause p1
	# On hybrid cgroups podman may find its monitor's folder still in use: the monitor is about to go.
	for _ in $(seq 60); do pod pod rm -f -t 0 p1; pod pod exists p1 || break; sleep 0.5; done >/dev/null 2>&1
	t_fails "pod rm" pod pod exists p1
fi
t_eq "nothing is left" "$(pod ps -aq; leftovers | grep -v "/root\b\|overlay" | grep -v runroot)" ""
done_testing
