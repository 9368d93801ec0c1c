#!/bin/bash
# A start that fails or is killed anywhere: the reason reaches the caller, and nothing stays behind.
. "$SOURCE/tests/lib.sh"
. "$SOURCE/tests/oci/bundle.sh"
b=$T/a
bundle "$b" "sh('true'); userns()
c['hooks']=dict(createRuntime=[dict(path='/bin/true')])"
outside="create.dir create.cgroup create.cloned create.limits create.ready"
inside="init.cloned init.idmapped init.network init.cgroup init.mounts init.hooks init.pivoted init.ready"

for p in $outside; do
	got=$(STRATA_FAULT="$p:1:EIO" oci create -b "$b" c1 2>&1 </dev/null)
	t_eq "failure at $p is told" "$(case $got in *"Input/output error"* | *"I/O error"*) echo yes ;; *) echo "$got" ;; esac)" yes
	t_eq "failure at $p leaves nothing" "$(leftovers)" ""
done
for p in $outside; do
	STRATA_FAULT="$p:1:kill" oci create -b "$b" c1 >/dev/null 2>&1
	t "delete --force after kill -9 at $p" oci delete --force c1
	t_eq "kill -9 at $p leaves nothing" "$(leftovers)" ""
done
for p in $inside; do
	got=$(STRATA_FAULT="$p:1:EIO" oci create -b "$b" c1 2>&1 </dev/null)
	t_eq "failure at $p is told" "$(case $got in *"Input/output error"* | *"I/O error"*) echo yes ;; *) echo "$got" ;; esac)" yes
	t_eq "failure at $p leaves nothing" "$(leftovers)" ""
done
# The first process is held at a stage while it, or the runtime, is killed.
for p in $inside; do
	STRATA_FAULT="$p:1:delay=500" strata-oci --root "$ROOT" create -b "$b" c1 >"$T/log" 2>&1 </dev/null &
	pid=$!
	for _ in $(seq 100); do child=$(pgrep -P $pid) && break; sleep 0.005; done
	sleep 0.05
	kill -9 $child
	wait $pid
	t_eq "the death of the first process at $p is told" "$(grep -c 'ended' "$T/log")" 1
	t_eq "its death at $p leaves nothing" "$(leftovers)" ""
done
for p in $inside; do
	STRATA_FAULT="$p:1:delay=500" strata-oci --root "$ROOT" create -b "$b" c1 >/dev/null 2>&1 </dev/null &
	pid=$!
	for _ in $(seq 100); do child=$(pgrep -P $pid) && break; sleep 0.005; done
	sleep 0.05
	kill -9 $pid
	wait $pid 2>/dev/null
	t "delete --force after kill -9 of the runtime at $p" oci delete --force c1
	t_eq "that leaves nothing" "$(leftovers)" ""
done
done_testing
