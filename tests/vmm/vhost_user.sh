#!/bin/bash
# The front end of vhost-user-blk (a driver on the fake hypervisor) against our own server and qemu-storage-daemon.
. "$SOURCE/tests/lib.sh"
requires cmd:qemu-storage-daemon
cd "$T" || exit 1
guest() { timeout 150 "$BUILD/tests/vmm/vhost_user_guest" "$@"; }
wait_for() { # FILE: until it is there
	for ((i = 0; i < 600; i++)); do [ -e "$1" ] && return; sleep 0.05; done
	return 1
}
start() {
	strata-disk serve path=d.raw,format=raw --vhost-user "$T/s" </dev/null >>serve.out 2>&1 &
	server=$!
	at_exit "kill -KILL $server 2>/dev/null"
	wait_for s
}

truncate -s 4M d.raw
start
t "strata-disk" guest "$T/s" 300
kill -TERM $server
wait $server
t_eq "it ends on SIGTERM" $? 0

# killed with requests under way, four times
rm -f s d.raw
truncate -s 4M d.raw
start
coproc G { guest "$T/s" 400 restart 2>guest.err; }
exec {out}<&"${G[0]}" {in}>&"${G[1]}" # bash forgets its own when the guest ends
pid=$G_PID restarts=0
while read -r line <&"$out"; do
	[ "$line" = restart ] || continue
	kill -KILL $server
	wait $server 2>/dev/null
	rm -f s
	start
	restarts=$((restarts + 1))
	echo go >&"$in"
done
wait "$pid"
t_eq "killed and taken over" "$? $restarts" "0 4" || diag <guest.err
kill -TERM $server
wait $server

rm -f s q.raw
truncate -s 4M q.raw
qemu-storage-daemon --blockdev driver=file,node-name=f,filename=q.raw,discard=unmap --blockdev driver=raw,node-name=n,file=f \
	--export "type=vhost-user-blk,id=e,addr.type=unix,addr.path=$T/q,node-name=n,writable=on,num-queues=2" </dev/null >qsd.out 2>&1 &
qsd=$!
at_exit "kill -KILL $qsd 2>/dev/null"
wait_for q
t "qemu-storage-daemon" guest "$T/q" 300
kill $qsd
wait $qsd 2>/dev/null

# ---- what is refused
t_fails "nobody serves" timeout 20 strata-vmm run --kernel /dev/null --disk "socket=$T/nobody"
t_fails "options that are the server's" timeout 20 strata-vmm run --kernel /dev/null --disk "socket=$T/s,readonly"
done_testing
