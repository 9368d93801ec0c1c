# For tests of the daemon with instances; sourced.
# Source it first; it starts the test again inside `unshare` and goes on there.
. "${SOURCE:?}/tests/lib.sh" || exit 1
requires root cmd:stratad cmd:strata-shim cmd:strata-oci cmd:ip cmd:nft cmd:curl cmd:jq cmd:busybox
if [ -z "${STRATA_NODE_INSIDE:-}" ]; then
	trap - EXIT
	rm -rf "$T"
	STRATA_NODE_INSIDE=1 exec unshare -n -m --propagation private bash "$0" "$@"
fi
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
ip link set lo up
mkdir -p "$T/r"
mount -t tmpfs tmpfs "$T/r" # as /run is: and nothing of it is left when the namespace ends
export STRATA_SERVER=unix:$T/r/d/strata.sock
pid=
at_exit 'umount -l "$T/r" 2>/dev/null; umount -l /run/netns/* 2>/dev/null; umount -l /run/netns 2>/dev/null'
at_exit 'kill_instances'
at_exit '[ -n "$pid" ] && kill -9 $pid 2>/dev/null'

start_daemon() { # start_daemon [NAME=VALUE...]: and wait for it
	env "$@" stratad --state-dir "$T/s" --run-dir "$T/r/d" --log-dir "$T/l" >>"$T/log" 2>&1 </dev/null &
	pid=$!
	for _ in $(seq 600); do
		api /v1/ >/dev/null 2>&1 && return
		kill -0 $pid 2>/dev/null || return 1
		sleep 0.05
	done
	return 1
}
stop_daemon() { kill $pid; wait $pid; }
# Those of this test only: their command line has its folder.
shims() { pgrep -f -- "strata-shim --dir $T/r/d/"; }
kill_instances() {
	local id
	shims | xargs -r kill -9 2>/dev/null
	for id in $(ids); do cgroup_kill "$id"; done
}
cgroup_kill() { cat /sys/fs/cgroup/*/strata/"$1"/cgroup.procs /sys/fs/cgroup/strata/"$1"/cgroup.procs 2>/dev/null | sort -u | xargs -r kill -9 2>/dev/null; }
# Every instance that there ever was.
ids() { grep -hs '"type":"instance.created"' "$T"/l/events.jsonl* | jq -r .object.id 2>/dev/null; }
api() { curl -sf --max-time 60 --unix-socket "$T/r/d/strata.sock" "http://localhost$1" "${@:2}"; }
post() { api "$1" -X "${3:-POST}" -H 'Content-Type: application/json' -d "${2:-{\}}"; }
s() { timeout 60 strata "$@"; }
state() { s inspect "$1" --format '{status.state}' 2>/dev/null; }
until_ok() { # until_ok COMMAND...: at most half a minute
	for _ in $(seq 600); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.05
	done
	return 1
}
# A root of busybox and little else.
busybox_image() {
	local r=$T/root a
	mkdir -p "$r"/{bin,etc,tmp,root,proc,sys,dev,run}
	cp "$(command -v busybox)" "$r/bin/busybox"
	for a in sh cat ls echo sleep true false ip wget httpd hostname id touch df dd ps stty tty head wc mkdir kill; do
		ln -s busybox "$r/bin/$a"
	done
	printf 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n' >"$r/etc/passwd"
	printf 'root:x:0:\napp:x:1000:\n' >"$r/etc/group"
	tar -C "$r" -cf "$T/bb.tar" .
	post "/v1/images/import?wait=60s" "{\"path\":\"$T/bb.tar\",\"name\":\"bb:1\"}" | jq -e '.state == "succeeded"'
}
