#!/bin/bash
# containerd (its own daemon, its runc shim) with strata-oci in runc's place: ctr run, exec, pause, kill, metrics, delete.
. "$SOURCE/tests/lib.sh"
. "$SOURCE/tests/oci/bundle.sh"
requires cmd:containerd cmd:ctr cmd:containerd-shim-runc-v2
bundle "$T/img" # for its root
sock=$T/c.sock
cat >"$T/config.toml" <<E
version = 2
root = "$T/root"
state = "$T/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
address = "$sock"
[ttrpc]
address = "$sock.ttrpc"
E
setsid containerd -c "$T/config.toml" >"$T/containerd.log" 2>&1 </dev/null &
daemon=$!
c() { timeout 60 ctr -a "$sock" "$@" </dev/null; }
at_exit 'for x in $(c c ls -q 2>/dev/null); do c t kill -s KILL -a "$x"; c t rm -f "$x"; c c rm "$x"; done >/dev/null 2>&1; kill "$daemon" 2>/dev/null; wait "$daemon" 2>/dev/null; grep " $T/" /proc/self/mountinfo | cut -d" " -f5 | sort -r | xargs -r umount 2>/dev/null'
for _ in $(seq 600); do c version >/dev/null 2>&1 && break; sleep 0.1; done
t "containerd runs" c version || { diag <"$T/containerd.log"; done_testing; exit 1; }
run=(run --rootfs --runtime io.containerd.runc.v2 --runc-binary "$(command -v strata-oci)" --cgroup "/$TAG/ctr")
t_eq "run --rm: output and status" "$(c "${run[@]}" --rm "$T/img/rootfs" r1 sh -c 'echo out; exit 7'; echo $?)" "out
7"
t "run -d" c "${run[@]}" -d --memory-limit 67108864 "$T/img/rootfs" r2 sleep 1000
t_eq "it runs" "$(c t ls | awk '$1 == "r2" { print $3 }')" RUNNING
t_eq "exec: output and status" "$(c t exec --exec-id x1 r2 sh -c 'echo in; exit 3'; echo $?)" "in
3"
t "pause" c t pause r2
t_eq "it is paused" "$(c t ls | awk '$1 == "r2" { print $3 }')" PAUSED
t "resume" c t resume r2
t "metrics" c t metrics r2
t_eq "ps" "$(c t ps r2 | wc -l)" 2
t "kill" c t kill -s KILL r2
t_eq "it stops" "$(for _ in $(seq 600); do c t ls | grep -q 'r2 .*STOPPED' && break; sleep 0.1; done; c t ls | awk '$1 == "r2" { print $3 }')" STOPPED
t "task rm" eval 'c t rm r2 || [ $? = 137 ]'
t "container rm" c c rm r2
t_eq "a container that cannot start says why" "$(c "${run[@]}" --rm "$T/img/rootfs" r3 /nosuch 2>&1 | grep -c "exec '/nosuch'")" 1
c c rm r3 >/dev/null 2>&1
t_eq "no container is left" "$(c c ls -q)$(find /sys/fs/cgroup -mindepth 2 -path "*/$TAG/*" -type d)" ""
done_testing
