#!/bin/bash
# strata-disk serve over NBD, judged by libnbd's and QEMU's clients; then clients that are slow or hostile.
. "$SOURCE/tests/lib.sh"
requires cmd:qemu-img cmd:qemu-io cmd:nbdinfo cmd:nbdcopy cmd:python3 cmd:openssl
cd "$T" || exit 1

serve() { # NAME ARGUMENT...: starts a server, waits until it listens; its lines are in NAME.out
	local name=$1
	shift
	setsid strata-disk serve "$@" </dev/null >"$name.out" 2>"$name.err" &
	eval "pid_$name=$!"
	at_exit "kill -KILL $! 2>/dev/null"
	for ((i = 0; i < 600; i++)); do
		[ -s "$name.out" ] && return 0
		kill -0 "$!" 2>/dev/null || break
		sleep 0.05
	done
	diag <"$name.err"
	return 1
}
stop() { # NAME: by SIGTERM; its exit status
	local pid
	eval "pid=\$pid_$1"
	kill -TERM "$pid"
	wait "$pid"
}
same() { # A B: equal bytes
	qemu-img compare -q "$1" "$2"
}
export -f same

strata-disk create -f qcow2 a.qcow2 64M >/dev/null
qemu-io -f qcow2 -c 'write -P 1 0 1M' -c 'write -P 2 5M 3k' -c 'write -z 20M 2M' a.qcow2 >/dev/null
truncate -s 10000000 b.raw
head -c 3000000 /dev/urandom | dd of=b.raw conv=notrunc status=none
cp --sparse=always b.raw b.copy
serve main path=a.qcow2,name=a,description=alpha path=b.raw,format=raw --nbd "unix:$T/s" --nbd tcp:127.0.0.1:0 --threads 2
A="nbd+unix:///a?socket=$T/s" B="nbd+unix:///b.raw?socket=$T/s"
TCP=$(sed -n 2p main.out)

t_eq "list" "$(nbdinfo --list --json "nbd+unix://?socket=$T/s" | python3 -c '
import json, sys
for x in json.load(sys.stdin)["exports"]: print(x["export-name"], x.get("description", "-"), x["export-size"], x["can_multi_conn"], x["can_fast_zero"], x["block_size_maximum"])')" \
	"a alpha 67108864 True True 33554432
b.raw - 10000000 True True 33554432"
t_eq "the first is the default" "$(nbdinfo --size "nbd+unix:///?socket=$T/s")" 67108864
t_eq "base:allocation" "$(nbdinfo --map "$A" | awk '{print $1, $2, $3}')" "0 1048576 0
1048576 4194304 3
5242880 65536 0
5308416 15663104 3
20971520 2097152 2
23068672 44040192 3"
t_eq "allocation-depth" "$(nbdinfo --map=qemu:allocation-depth "$A" | awk '{print $1, $2, $3}')" "0 1048576 1
1048576 4194304 0
5242880 65536 1
5308416 15663104 0
20971520 2097152 1
23068672 44040192 0"
qemu-img convert -U -O raw a.qcow2 a.raw
t "read by qemu-img" same "$A" a.raw
t "read over TCP by nbdcopy" nbdcopy "$TCP" a2.raw
t "the same" cmp a2.raw a.raw
t "an odd size" bash -c 'nbdcopy "$0" - | cmp - b.copy' "$B"
t "written by nbdcopy, several connections" nbdcopy --connections=4 --threads=4 a.raw "$TCP"
t "the same afterwards" same "$A" a.raw

# ---- commands, by QEMU's client
t "write, FUA, zeroes, discard" qemu-io -f raw -c 'write -f -P 7 1000 50000' -c 'write -z 30M 1M' -c 'write -z -u 5M 64k' \
	-c 'discard 0 512k' -c flush -c 'read -P 7 600000 0' "$A"
t "unaligned bytes read back" qemu-io -f raw -c 'write -P 8 1000001 4097' -c 'read -P 8 1000001 4097' -c 'read -P 0 31000000 5000' "$A"
t "32 MiB in one request" qemu-io -f raw -c 'write -P 9 0 32M' -c 'read -P 9 0 32M' "$A"
t_eq "unmapped zeroes are a hole" "$(nbdinfo --map "$A" | awk '$1 == 33554432 {print $3}')" 3
t_fails "past the end" qemu-io -f raw -c 'write 64M 512' "$A"
t "a second writer is refused" bash -c '! qemu-io -f qcow2 -c "write 0 512" a.qcow2 2>err && grep -q lock err'
if command -v nbdfuse >/dev/null && [ -c /dev/fuse ] && [ "$(id -u)" = 0 ]; then
	mkdir fuse
	nbdfuse fuse/disk --unix "$T/s" </dev/null >fuse.out 2>&1 &
	fuse=$!
	at_exit "fusermount3 -u '$T/fuse' 2>/dev/null || umount '$T/fuse' 2>/dev/null"
	for ((i = 0; i < 100; i++)); do [ -e fuse/disk ] && break; sleep 0.05; done
	if [ -e fuse/disk ]; then
		t "nbdfuse" bash -c 'nbdcopy "$0" - | cmp - fuse/disk' "$A"
		umount fuse
		wait $fuse
	else
		kill $fuse 2>/dev/null
		skip "nbdfuse" "FUSE does not mount here"
	fi
else
	skip "nbdfuse" "needs FUSE"
fi
t "ends on SIGTERM" stop main
t_eq "and takes its socket away" "$(ls s 2>&1 | grep -c 'No such')" 1
t "the image is clean" qemu-img check -q a.qcow2

# ---- without io_uring
export STRATA_AIO=threads
serve aio a.qcow2 --nbd "unix:$T/aio"
unset STRATA_AIO
t "by worker threads" qemu-io -f raw -c 'write -P 5 1M 3M' -c flush -c 'read -P 5 1M 3M' "nbd+unix:///?socket=$T/aio"
t_eq "no ring was made" "$(ls -l "/proc/$pid_aio/fd" | grep -c io_uring)" 0
stop aio

# ---- a block device
if [ "$(id -u)" = 0 ] && truncate -s 32M loop.img && loop=$(losetup -f --show loop.img 2>/dev/null); then
	at_exit "losetup -d $loop 2>/dev/null"
	serve blk "path=$loop,format=raw,name=b" --nbd "unix:$T/blk" --direct
	t_eq "a block device's size" "$(nbdinfo --size "nbd+unix:///b?socket=$T/blk")" 33554432
	t "written, zeroed, discarded, unaligned" qemu-io -f raw -c 'write -P 6 0 4M' -c 'write -z -u 1M 1M' -c 'discard 3M 64k' -c flush \
		-c 'write -P 7 100 1000' -c 'read -P 7 100 1000' -c 'read -P 0 1M 1M' -c 'read -P 6 2M 1M' "nbd+unix:///b?socket=$T/blk"
	t_fails "a second writer of the device" timeout 20 strata-disk serve "$loop" --nbd "unix:$T/n"
	t "ends" stop blk
	losetup -d "$loop"
else
	skip "a block device" "no loop device can be made here"
fi

# ---- read-only, and a reader beside a writer
serve ro --readonly a.qcow2 --nbd "unix:$T/ro"
t_eq "read-only is told" "$(nbdinfo --is read-only "nbd+unix:///?socket=$T/ro"; echo $?)" 0
t_fails "a write is refused" qemu-io -f raw -c 'write 0 512' "nbd+unix:///?socket=$T/ro"
stop ro

# ---- TLS
mkdir pki
cat >openssl.cnf <<'C'
[ca]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
[client]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = clientAuth
C
cert() { # NAME SUBJECT
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "pki/$1-key.pem" -out "$1.csr" -subj "/CN=$2" 2>/dev/null
	openssl x509 -req -in "$1.csr" -CA pki/ca-cert.pem -CAkey pki/ca-key.pem -CAcreateserial -days 30 \
		-extfile openssl.cnf -extensions "$1" -out "pki/$1-cert.pem" 2>/dev/null
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout pki/ca-key.pem -out pki/ca-cert.pem -days 30 \
	-subj /CN=test-ca -config openssl.cnf -extensions ca 2>/dev/null || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
	-keyout pki/ca-key.pem -out pki/ca-cert.pem -days 30 -subj /CN=test-ca 2>/dev/null
cert server localhost
cert client me
serve tls a.qcow2 --nbd tcp:127.0.0.1:0 --tls-certificates pki --tls-verify-peer
port=$(sed 's/.*:\([0-9]*\)\/.*/\1/' tls.out)
qtls() { # FORMAT-OF-CREDENTIALS IMAGE-OPTIONS
	qemu-img compare -q --object "$1" --image-opts "$2" driver=raw,file.driver=file,file.filename=a.raw
}
qemu-img convert -U -O raw a.qcow2 a.raw
t "TLS: qemu-img with a certificate" qtls "tls-creds-x509,id=t,dir=$T/pki,endpoint=client,verify-peer=on" \
	"driver=raw,file.driver=nbd,file.server.type=inet,file.server.host=127.0.0.1,file.server.port=$port,file.tls-creds=t"
t "TLS: libnbd with a certificate" nbdinfo --size "nbds://127.0.0.1:$port/?tls-certificates=$T/pki"
t_fails "TLS: in plain text refused" nbdinfo --size "nbd://127.0.0.1:$port/"
mkdir strangers
cp pki/ca-cert.pem strangers/
t_fails "TLS: without a certificate refused" nbdinfo --size "nbds://127.0.0.1:$port/?tls-certificates=$T/strangers"
t "TLS: many bytes both ways" nbdcopy a.raw "nbds://127.0.0.1:$port/?tls-certificates=$T/pki"
stop tls
echo "alice:$(openssl rand -hex 32)" >psk
serve psk a.qcow2 --nbd "unix:$T/p" --tls-psk psk
t "TLS: pre-shared key" bash -c 'nbdcopy "$0" - | cmp - a.raw' "nbds+unix://alice@/?socket=$T/p&tls-psk-file=$T/psk"
echo "alice:$(openssl rand -hex 32)" >wrong
t_fails "TLS: a wrong key" nbdinfo "nbds+unix://alice@/?socket=$T/p&tls-psk-file=$T/wrong"
stop psk

# ---- what is refused before anything starts
t_fails "the world without TLS" timeout 10 strata-disk serve a.qcow2 --nbd tcp:0.0.0.0:0
t_fails "no address" timeout 10 strata-disk serve a.qcow2
t_fails "no such file" timeout 10 strata-disk serve nothing --nbd "unix:$T/n"
t_fails "one name twice" timeout 10 strata-disk serve b.raw b.raw --readonly --nbd "unix:$T/n"

# ---- limits and the control socket
truncate -s 8M l.raw
serve lim path=l.raw,format=raw,throttle=bps-read=1G --nbd "unix:$T/l" --ctl "$T/c" --stats --throttle iops-total=20,iops-read-max=100,iops-read=40
L="nbd+unix:///?socket=$T/l"
reads() { # N: one after the other; milliseconds
	local start=${EPOCHREALTIME/./} args=()
	for ((i = 0; i < $1; i++)); do args+=(-c "read 0 512"); done
	qemu-io -f raw -r "${args[@]}" "$L" >/dev/null || return
	echo $(((${EPOCHREALTIME/./} - start) / 1000))
}
ctl() { strata-disk ctl "$T/c" "$@"; }
ms=$(reads 25)
t "25 reads at 20 a second take their time ($ms ms)" [ "${ms:-0}" -ge 1000 ]
t "the limits go while it runs" ctl throttle '{"params": {"iops-total": 0, "iops-read": "0", "iops-read-max": 0}}'
ctl status >status
t_eq "status" "$(python3 -c '
import json
s = json.load(open("status")); x = s["exports"][0]
print(x["name"], x["size"], x["throttle"], x["io"]["read"]["requests"] >= 25, float(x["latency"]["read.p99-us"]) > 0, s["nbd_clients"])')" \
	"l.raw 8388608 {'bps-read': '1073741824'} True True 0"
t "growing while it is served" ctl resize '{"export": "l.raw", "size": 16777216}'
t_eq "new clients see it" "$(nbdinfo --size "$L")" 16777216
t_fails "shrinking must be asked for" ctl resize '{"size": 4096}'
t_fails "no such limit" ctl throttle '{"params": {"iops": 3}}'
t_fails "no such export" ctl throttle '{"export": "x", "params": {}}'
t_fails "no such verb" ctl dance
t_fails "a limit that is none" timeout 10 strata-disk serve l.raw --nbd "unix:$T/n" --throttle iops-total=fast
t_fails "a burst below its rate" timeout 10 strata-disk serve l.raw --nbd "unix:$T/n" --throttle iops-total=10,iops-total-max=5
t "stop by the control socket" ctl stop
wait "$pid_lim"
t_eq "ended" $? 0

# ---- slow and hostile clients
truncate -s 64M h.raw
serve hostile path=h.raw,format=raw --nbd "unix:$T/h" --threads 1 --timeout 1s --memory 64M --max-clients 40
t "slow and hostile clients" timeout 120 python3 "$SOURCE/tests/storage/nbd_hostile.py" "$T/h" "$pid_hostile"
t "serves after them" nbdcopy h.raw "nbd+unix:///?socket=$T/h"
t "ends after them" stop hostile
serve starttls b.raw --format raw --nbd "unix:$T/t" --tls-psk psk
t "plain text behind STARTTLS" timeout 20 python3 "$SOURCE/tests/storage/nbd_hostile.py" "$T/t" starttls
stop starttls
done_testing
