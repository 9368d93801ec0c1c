#!/bin/bash
# Requests made from the OpenAPI document, right and wrong, against the daemon: no crash, no answer that the document does not promise.
# In namespaces and on a small file system of their own: what they make is real.  1,500 requests; 100,000 with STRATA_LONG=1.
. "$SOURCE/tests/lib.sh"
requires root cmd:unshare cmd:python3
if [ -z "${INSIDE:-}" ]; then
	INSIDE=1 exec unshare --net --mount --propagation private -- "$0" "$@"
fi
mount -t tmpfs -o size=256m none /mnt
ip link set lo up
setsid stratad --state-dir /mnt/s --run-dir /mnt/r --log-dir /mnt/l 2>"$T/log" </dev/null &
pid=$!
at_exit "kill $pid 2>/dev/null; wait $pid 2>/dev/null; umount -l /mnt"
export STRATA_SERVER=unix:/mnt/r/strata.sock
for _ in $(seq 400); do strata version >/dev/null 2>&1 && break; sleep 0.05; done
n=1500 limit=240
[ -z "${STRATA_LONG:-}" ] || { n=100000 limit=3000; }
answers() { timeout $limit python3 "$SOURCE/tests/node/fuzz_api.py" /mnt/r/strata.sock $n ${SEED:-} >"$T/out" 2>&1 || { cat "$T/out"; tail -n 5 "$T/log"; return 1; }; }
t "$n requests are answered as the document promises" answers
sed 's/^/# /' "$T/out"
t "the daemon is the same process" kill -0 $pid
t "and no sanitizer had anything to say" sh -c "! grep -E 'AddressSanitizer|runtime error' '$T/log'"
idle() { for _ in $(seq 600); do [ "$(strata task ls --state queued --state running -o json)" = "[]" ] && return; sleep 0.1; done; return 1; }
t "its tasks end" idle
kill $pid
wait $pid
t_eq "it stops with status 0" $? 0
done_testing
