#!/bin/bash
# Every virtio device under the stock drivers of Debian's cloud kernel: in a lab host, strata-vmm starts a guest with the host's
# own kernel and an initial RAM disk whose /init is virtio-init; what that says on its console is judged here.
. "$SOURCE/tests/lib.sh"
. "$SOURCE/tests/lab/lib.sh"
[ -n "${STRATA_LONG:-}" ] || skip_all "a nested guest under every driver takes minutes: set STRATA_LONG=1"
LAB_TIMEOUT=1500 VSOCK=1
lab_inside --memory 3G
d=$T
at_exit 'kill $(jobs -p) 2>/dev/null; ip link del strata-t0 2>/dev/null'
kver=$(uname -r)
vmm=strata-vmm

make_initrd() {
	local r=$d/root n f
	mkdir -p "$r"/{bin,sbin,usr/bin,usr/sbin,lib,lib64,modules,proc,sys,dev,tmp}
	cp /bin/busybox "$r/bin/busybox"
	for n in $("$r/bin/busybox" --list); do [ -e "$r/bin/$n" ] || ln -s busybox "$r/bin/$n"; done
	for n in fio iperf3 socat blkdiscard; do
		f=$(command -v "$n") || continue
		rm -f "$r/bin/$n"
		cp -L "$f" "$r/bin/$n"
		ldd "$f" | grep -o '/[^ ]*' | while read -r l; do
			mkdir -p "$r$(dirname "$l")"
			cp -L "$l" "$r$l"
		done
	done
	for n in virtio_pci virtio_blk virtio_net virtio_console virtio-rng virtio_balloon vmw_vsock_virtio_transport; do
		modprobe -S "$kver" --show-depends "$n" 2>/dev/null | while read -r kind f _; do
			[ "$kind" = insmod ] || continue
			grep -qx "$(basename "$f")" "$r/modules/order" 2>/dev/null && continue
			cp "$f" "$r/modules/"
			basename "$f" >>"$r/modules/order"
		done
	done
	cp "$SOURCE/tests/lab/virtio-init" "$r/init"
	chmod +x "$r/init"
	(cd "$r" && find . | busybox cpio -o -H newc 2>/dev/null) >"$d/initrd"
}

make_initrd
truncate -s 32M "$d/disk.raw"
head -c 2M /dev/urandom >"$d/ro.raw"
ip tuntap add strata-t0 mode tap vnet_hdr ${QUEUES:+multi_queue}
ip addr add 10.9.0.1/24 dev strata-t0
ip link set strata-t0 up
iperf3 -s -B 10.9.0.1 >/dev/null 2>&1 &
socat UNIX-LISTEN:"$d/vs_1234",fork SYSTEM:'cat' &

"$vmm" run --kernel "/boot/vmlinuz-$kver" --initrd "$d/initrd" --append "console=ttyS0 quiet panic=-1 net.ifnames=0 random.trust_cpu=on" \
	--cpus "${CPUS:-1}" --memory 384M --disk "path=$d/disk.raw,format=raw,serial=unit-serial" --disk "path=$d/ro.raw,format=raw,readonly" \
	--net "tap=strata-t0,mac=52:54:00:12:34:56,vhost=${VHOST:-auto}" --rng --balloon --port "name=org.example.echo,socket=$d/port" \
	${VSOCK+--vsock "cid=5,socket=$d/vs"} --console "socket:$d/console" --ctl "$d/ctl" --no-reboot >"$d/vmm.log" 2>&1 &
vm=$!
for _ in $(seq 600); do [ -S "$d/console" ] && break; sleep 0.1; done
socat -u "UNIX-CONNECT:$d/console" - 2>/dev/null | tr -d '\r' >"$d/serial" &

said() { sed -n "s/^@ $1 \\?//p" "$d/serial" | tail -n 1; }
await() { # word seconds
	for _ in $(seq $(($2 * 5))); do
		grep -q "^@ $1" "$d/serial" && return 0
		kill -0 $vm 2>/dev/null || break
		sleep 0.2
	done
	echo "# no '$1'; the guest's last lines:"
	tail -n 15 "$d/serial" | sed 's/^/#   /'
	sed 's/^/# vmm: /' "$d/vmm.log" | tail -n 5
	return 1
}
figure() { "$vmm" ctl "$d/ctl" stats | grep -o "\"$1\": *[0-9]*" | head -n 1 | grep -o '[0-9]*$'; }

t "the guest comes up with its drivers" await up 900
await iperf-reverse 900
t "rng: the driver takes it, bytes come" test "$(said rng | cut -d' ' -f1)" = virtio_rng.0 -a "$(said rng | cut -d' ' -f2)" -gt 900
t "blk: serial" test "$(said blk-serial)" = unit-serial
t "blk: a queue for each vCPU" test "$(said blk-queues)" = "${CPUS:-1}"
t "blk: read-only is read-only" test "$(said blk-ro)" = 1
t "blk: the guest reads what the file holds" test "$(said blk-sum)" = "$(sha256sum <"$d/ro.raw" | cut -d' ' -f1)"
t "blk: the file holds what the guest wrote" cmp -n 2097152 "$d/ro.raw" "$d/disk.raw"
t "blk: fio verifies random writes" test "$(said fio)" = ok
t "blk: write-zeroes" test "$(said zeroout)" = 0
t "blk: discard" test "$(said discard)" = ok
t "net: the address given" test "$(said mac)" = 52:54:00:12:34:56
t "net: ping" test "$(said ping)" = 3
t "net: ping with fragments" test "$(said ping-large)" = 2
t "net: TCP out" test "$(said iperf)" -gt 1000000
t "net: TCP in" test "$(said iperf-reverse)" -gt 1000000
echo "# TCP bytes in 3 s: out $(said iperf), in $(said iperf-reverse)"

coproc PORT { socat - "UNIX-CONNECT:$d/port"; }
echo ping >&"${PORT[1]}"
read -r -t 300 line <&"${PORT[0]}"
t "console: a named port answers" test "$line" = "got ping"
if [ -n "${VSOCK+x}" ]; then
	await vsock 300
	t "vsock: the guest reaches the host" test "$(said vsock)" = "hello from the guest"
	sleep 1
	line=$(printf 'CONNECT 4321\n' | timeout 200 socat -t 100 - "UNIX-CONNECT:$d/vs" | tail -n 1)
	t "vsock: the host reaches the guest" test "$line" = "answer of the guest"
fi
await free 300
before=$(said free)
"$vmm" ctl "$d/ctl" set '{"device":"balloon0","target":134217728}' >/dev/null
for _ in $(seq 600); do [ "$(figure actual_bytes)" = 134217728 ] && break; sleep 0.2; done
echo inflated >&"${PORT[1]}"
read -r -t 300 line <&"${PORT[0]}"
t "balloon: inflates by 128 MiB" test "$(said free-inflated)" -lt $((before - 100))
"$vmm" ctl "$d/ctl" set '{"device":"balloon0","target":0}' >/dev/null
for _ in $(seq 600); do [ "$(figure actual_bytes)" = 0 ] && break; sleep 0.2; done
echo deflated >&"${PORT[1]}"
read -r -t 300 line <&"${PORT[0]}"
t "balloon: deflates" test "$(said free-deflated)" -gt $((before - 40))
t "balloon: statistics of the guest" test "$(figure guest_total)" -gt 200000000
reported=$(figure reported_bytes)
for _ in $(seq 60); do [ "$(figure reported_bytes)" -gt $((reported + 50000000)) ] && break; sleep 0.2; done
t "balloon: what the guest freed is reported" test "$(figure reported_bytes)" -gt $((reported + 50000000))
echo bye >&"${PORT[1]}"
wait $vm
t "powers off" test $? = 0
done_testing
