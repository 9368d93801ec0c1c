#!/bin/bash
# Disks that an NBD server exports, used by our engine; qemu-nbd serves and judges.
. "$SOURCE/tests/lib.sh"
requires cmd:qemu-nbd cmd:qemu-img cmd:qemu-io
ldconfig -p | grep -q libnbd.so.0 || skip_all "needs libnbd"
cd "$T" || exit 1
serve() { # IMAGE
	rm -f s
	qemu-nbd -t -e 8 -f qcow2 --discard=unmap -k "$T/s" "$1" </dev/null >qemu-nbd.out 2>&1 &
	server=$!
	at_exit "kill -KILL $server 2>/dev/null"
	for ((i = 0; i < 600; i++)); do [ -S s ] && return; sleep 0.05; done
	return 1
}
U="nbd+unix:///?socket=$T/s"
qemu-img create -q -f qcow2 a.qcow2 16M
qemu-io -f qcow2 -c 'write -P 3 0 1M' -c 'write -P 4 5000000 3000' a.qcow2 >/dev/null
qemu-img convert -O raw a.qcow2 a.raw
serve a.qcow2
t "read" strata-disk compare -f raw -F raw "$U" a.raw
t "holes are known" bash -c 'strata-disk map -o json "$0" | python3 -c "
import json, sys
assert [(x[\"start\"], x[\"data\"]) for x in json.load(sys.stdin)][:2] == [(0, True), (1048576, False)]"' "$U"
printf '%s\n' 'w 100 70000 9' 'z 200000 70000' 'w 4096 512 1' 'f' | "$BUILD/tests/storage/diskio" "$U" raw >/dev/null
t_eq "written and flushed" $? 0
t "the server has it" qemu-io -f raw -c 'read -P 9 5000 60000' -c 'read -P 0 200000 70000' -c 'read -P 1 4096 512' "$U"
t "convert from a server" strata-disk convert -f raw "$U" c.qcow2
t "the same" qemu-img compare -q "$U" c.qcow2
qemu-img create -q -f qcow2 -b "$U" -F raw over.qcow2
t "as a backing file" strata-disk compare over.qcow2 c.qcow2
# the server dies and comes back: requests wait, none fails
strata-disk bench -f raw -c 300000 --random -d 16 "$U" >bench.out 2>bench.err &
bench=$!
sleep 0.3
kill -KILL $server
wait $server 2>/dev/null
serve a.qcow2
wait $bench
t_eq "a server that comes back" $? 0 || diag <bench.err
kill $server
wait $server
t_fails "no server" timeout 20 strata-disk info "$U"
t_fails "no such name" timeout 20 strata-disk info "nbd://127.0.0.1:1/x"
done_testing
