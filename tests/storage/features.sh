#!/bin/bash
# Every feature of qcow2, written by one side and read by the other; qemu-img judges.
. "$SOURCE/tests/lib.sh"
requires cmd:qemu-img cmd:qemu-io cmd:python3
cd "$T" || exit 1
diskio() { "$BUILD/tests/storage/diskio" "$@"; }
do_io() { # IMAGE LINE...
	local image=$1
	shift
	printf '%s\n' "$@" | diskio "$image" qcow2 >/dev/null
}

# ---- made by QEMU, read by us
qemu-img create -q -f qcow2 a.qcow2 64M
qemu-io -f qcow2 -c 'write -P 1 0 1M' -c 'write -P 2 5M 3k' -c 'write -z 20M 2M' a.qcow2 >/dev/null
qemu-img convert -O raw a.qcow2 a.raw
qemu-img convert -c -O qcow2 a.qcow2 zlib.qcow2
qemu-img convert -c -O qcow2 -o compression_type=zstd a.qcow2 zstd.qcow2
qemu-img convert -O qcow2 -o cluster_size=2M,refcount_bits=64 a.qcow2 big.qcow2
qemu-img convert -O qcow2 -o cluster_size=512,compat=0.10 a.qcow2 small.qcow2
qemu-img convert -O qcow2 -o extended_l2=on,preallocation=metadata a.qcow2 ext.qcow2
qemu-img convert -O qcow2 -o data_file=data.raw,data_file_raw=on a.qcow2 dfile.qcow2
qemu-img create -q -f qcow2 -b zlib.qcow2 -F qcow2 -o extended_l2=on over.qcow2
cat >map.py <<'P'
import json, sys
def load(f):
    out = []
    for x in json.load(open(f)):
        k = (x['depth'] if x['data'] else -1, x['data'], x['zero'], x.get('offset', 0) - x['start'] if x['data'] else 0)
        if out and out[-1][2] == k:
            out[-1] = (out[-1][0], out[-1][1] + x['length'], k)
        else:
            out.append((x['start'], x['length'], k))
    return out
a, b = load(sys.argv[1]), load(sys.argv[2])
if a != b:
    sys.exit("ours %s\nqemu %s" % (a, b))
P
for i in over a zlib zstd big small ext dfile; do
	t "$i: check" strata-disk check $i.qcow2
	t "$i: same bytes" strata-disk compare -F raw $i.qcow2 a.raw
	strata-disk map -o json $i.qcow2 >m1
	qemu-img map --output=json $i.qcow2 >m2
	t "$i: same map" python3 map.py m1 m2
	# a write by us leaves what QEMU accepts
	do_io $i.qcow2 'w 5000 9000 3' 'z 700000 3000' 'f'
	t "$i: written, check by QEMU" qemu-img check -q $i.qcow2
	qemu-img convert -O raw $i.qcow2 w.raw
	t "$i: written, same bytes" strata-disk compare -F raw $i.qcow2 w.raw
done

# ---- made by us, read by QEMU
for o in "" "-c" "-c -o compression_type=zstd" "-o extended_l2=on" "-o cluster_size=512" "-c -o cluster_size=2M" \
	"-o lazy_refcounts=on,refcount_bits=1" "-o compat=0.10" "-o data_file=d.raw"; do
	rm -f y.qcow2
	# shellcheck disable=SC2086
	t "convert $o" strata-disk convert $o a.raw y.qcow2
	t "convert $o: check" qemu-img check -q y.qcow2
	t "convert $o: same" qemu-img compare -q y.qcow2 a.raw
done
t "raw by name" strata-disk convert zstd.qcow2 back.raw
t_eq "is raw" "$(qemu-img info --output=json back.raw | python3 -c 'import json,sys; print(json.load(sys.stdin)["format"])')" raw

# ---- snapshots of both in one image
qemu-img convert -O qcow2 a.raw s.qcow2
t "snapshot create" strata-disk snapshot create s.qcow2 s1
t "check" qemu-img check -q s.qcow2
qemu-io -c 'write -P 9 0 128k' s.qcow2 >/dev/null
qemu-img snapshot -c s2 s.qcow2
t "check after QEMU's" strata-disk check s.qcow2
t_eq "both listed" "$(strata-disk snapshot ls s.qcow2 | awk 'NR > 1 { print $NF }' | xargs)" "s1 s2"
t "apply" strata-disk snapshot apply s.qcow2 s1
t "check" qemu-img check -q s.qcow2
t "contents are back" qemu-img compare -q s.qcow2 a.raw
t "rm" strata-disk snapshot rm s.qcow2 s1
t "apply QEMU's" strata-disk snapshot apply s.qcow2 s2
t "its contents" sh -c "qemu-io -c 'read -P 9 0 128k' s.qcow2 | grep -qv failed"
t "rm QEMU's" strata-disk snapshot rm s.qcow2 s2
t "check" qemu-img check -q s.qcow2
t_fails "unknown snapshot" strata-disk snapshot apply s.qcow2 s3

# ---- persistent bitmaps
qemu-img create -q -f qcow2 bm.qcow2 10M
qemu-img bitmap --add -g 65536 bm.qcow2 b0
qemu-img bitmap --add --disable bm.qcow2 b1
do_io bm.qcow2 'w 1000000 100000 7' f
t "bitmaps: check" qemu-img check -q bm.qcow2
t_eq "bitmaps: as they were" "$(qemu-img info --output=json bm.qcow2 | python3 -c '
import json, sys
print([(b["name"], b["flags"]) for b in json.load(sys.stdin)["format-specific"]["data"]["bitmaps"]])')" \
	"[('b0', ['auto']), ('b1', [])]"
qemu-img create -q -f qcow2 bm2.qcow2 10M
qemu-img bitmap --add -g 65536 bm2.qcow2 m
qemu-img bitmap --merge b0 -b bm.qcow2 -F qcow2 bm2.qcow2 m
qemu-storage-daemon --version >/dev/null 2>&1 &&
	t_eq "bitmaps: what we wrote is marked" "$(
		qemu-nbd -r -t -k "$T/n.sock" -B m -f qcow2 bm2.qcow2 & p=$!
		for _ in $(seq 50); do [ -S n.sock ] && break; sleep 0.1; done
		nbdinfo --map=qemu:dirty-bitmap:m "nbd+unix:///?socket=$T/n.sock" | awk '$3 == 1 { print $1, $2 }'
		kill $p; wait $p 2>/dev/null)" "983040 131072"

# ---- provisioning
for p in thin lazy eager; do
	t "create $p" strata-disk create --provision $p p.qcow2 32M
	t "$p: check" qemu-img check -q p.qcow2
	strata-disk create -f raw --provision $p p.raw 32M
	t_eq "$p: reserved" "$(($(stat -c %b p.raw) * 512 >> 20)) $(($(stat -c %b p.qcow2) * 512 >> 24))" \
		"$([ $p = thin ] && echo "0 0" || echo "32 2")"
done

# ---- space goes back to the host
qemu-img create -q -f qcow2 t.qcow2 64M
do_io t.qcow2 'w 0 33554432 5' f
full=$(stat -c %b t.qcow2)
do_io t.qcow2 'd 0 33554432' f f f f
t "discard punches the file" test "$(stat -c %b t.qcow2)" -lt $((full / 8))
t "check" qemu-img check -q t.qcow2

# ---- overlay, commit, rebase, resize
t "create -b" strata-disk create -b a.qcow2 -o extended_l2=on ov.qcow2
do_io ov.qcow2 'w 5000 9000 3' f
qemu-img convert -O raw ov.qcow2 ov.raw
t "commit" strata-disk commit ov.qcow2
t "base has it" qemu-img compare -q a.qcow2 ov.raw
t "overlay shows it" qemu-img compare -q ov.qcow2 ov.raw
t "rebase to none" strata-disk rebase -b "" ov.qcow2
t "same" qemu-img compare -q ov.qcow2 ov.raw
t "check" qemu-img check -q ov.qcow2
t "grow" strata-disk resize ov.qcow2 +100M
t "check" qemu-img check -q ov.qcow2
t_fails "shrink unasked" strata-disk resize ov.qcow2 1M
t "shrink" strata-disk resize --shrink ov.qcow2 32M
t "check" qemu-img check -q ov.qcow2
t_eq "measure as QEMU" "$(strata-disk measure a.qcow2 | head -1)" "$(qemu-img measure -O qcow2 a.qcow2 | head -1)"

# ---- damage
cp a.qcow2 dmg.qcow2
python3 - <<'P'
import struct
f = open('dmg.qcow2', 'r+b')
rt = struct.unpack('>Q', f.read(104)[48:56])[0]
f.seek(rt)
rb = struct.unpack('>Q', f.read(8))[0]
f.seek(rb + 2 * 6)
f.write(b'\0\0\0\0\0\5')
P
strata-disk check dmg.qcow2 >/dev/null 2>&1
t_eq "damage is found" $? 2
t "repair" strata-disk check --repair dmg.qcow2
t "clean to QEMU" qemu-img check -q dmg.qcow2
t "nothing lost" qemu-img compare -q dmg.qcow2 a.qcow2
cp a.qcow2 dirty.qcow2
printf '\x01' | dd of=dirty.qcow2 bs=1 seek=79 conv=notrunc status=none
t "a dirty image is repaired when opened" sh -c "echo f | $BUILD/tests/storage/diskio dirty.qcow2 qcow2"
t "clean to QEMU" qemu-img check -q dirty.qcow2
cp a.qcow2 feat.qcow2
printf '\x40' | dd of=feat.qcow2 bs=1 seek=79 conv=notrunc status=none
strata-disk info feat.qcow2 2>&1 | grep -q "incompatible feature bit 6"
t_eq "an unknown feature is refused by name" $? 0
qemu-img create -q -f qcow2 loop1.qcow2 1M
qemu-img create -q -f qcow2 -b loop1.qcow2 -F qcow2 loop2.qcow2
qemu-img rebase -u -b loop2.qcow2 -F qcow2 loop1.qcow2
t_fails "a loop of backing files" timeout 60 strata-disk map loop1.qcow2

# ---- locks, ours and QEMU's
(echo f; sleep 3) | diskio a.qcow2 qcow2 >/dev/null & p=$!
sleep 0.5
t_fails "QEMU refuses what we write" qemu-io -c 'write 0 512' a.qcow2
strata-disk resize a.qcow2 65M 2>&1 | grep -q "in use by diskio (pid $p)\|in use by diskio"
t_eq "we name the holder" $? 0
wait $p
done_testing
