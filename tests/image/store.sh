# The store under kill -9, two processes at once, holds, gc, and shared bytes.
. "$SOURCE/tests/lib.sh"
requires root cmd:tar

cd "$T" || exit 1
S="strata-image --store $T/store -q"
mkdir root
for i in 1 2 3; do mkdir root/d$i; head -c 300000 /dev/urandom >root/d$i/f; done
tar -C root -czf a.tar.gz .
echo changed >root/x
tar -C root -czf b.tar.gz .

# Each fault point in turn: the program dies there; afterwards nothing false is in the store, and a second try works.
for point in image.blob_write image.blob_commit image.layer_publish image.index; do
	for nth in 1 2; do
		STRATA_FAULT="$point:$nth:kill" $S import a.tar.gz --name a:1 --unpack >/dev/null 2>&1
		rc=$?
		t "killed at $point $nth ($rc): the store verifies" $S verify
		t "killed at $point $nth: ls" $S ls
	done
done
t "the second try works" $S import a.tar.gz --name a:1 --unpack
t "gc takes the leftovers" $S gc
t_eq "nothing in tmp and ingest" "$(ls -A store/tmp store/ingest | grep -cv ':$\|^$')" 0
STRATA_FAULT="image.gc_remove:1:kill" $S gc >/dev/null 2>&1
t "import another" $S import b.tar.gz --name b:1 --unpack
t "hold" $S hold vm-1 b:1
t "take its name" $S rm b:1
t "gc" $S gc
t_eq "held layers stay" "$(ls store/layers | wc -l)" 2
t "release" $S release vm-1
STRATA_FAULT="image.gc_remove:2:kill" $S gc >/dev/null 2>&1
t "after a killed gc the rest verifies" $S verify
t "gc again" $S gc
t_eq "released layers go" "$(ls store/layers | wc -l)" 1
t "the other image is whole" $S copy a:1 copy
t "and equal" diff -r --exclude x root copy

# A dead host: dirty carries another boot's id, a blob is damaged, a layer half written.
blob=$(find store/blobs -size +100k | head -1)
cp "$blob" saved
printf 'dead-beef' >store/dirty
echo damage >"$blob"
t "the store opens after a power cut" $S ls
t "the damaged blob is gone" test ! -e "$blob"
t_eq "unpacked layers of that time are gone" "$(ls store/layers | wc -l)" 0
t "importing again repairs" $S import a.tar.gz --name a:1 --unpack
t "sync" $S sync
t "nothing is dirty" test ! -e store/dirty

# Ten at once on one store.
for i in 1 2 3 4 5 6 7 8 9 10; do $S import b.tar.gz --name "n$i:1" --unpack >"out$i" 2>&1 & done
wait
t_eq "ten importers, ten names" "$($S ls | grep -c '^n[0-9]*:1')" 10
t_eq "one layer" "$(ls store/layers | wc -l)" 2
t_eq "nothing left behind" "$(ls store/tmp | wc -l)" 0

# Many containers, one copy: the lower file is one inode in all.
mkdir m1 m2
t "mount one" $S mount n1:1 m1
t "mount two" $S mount n2:1 m2
echo private >m1/d1/f
t_eq "what one writes, the other does not see" "$(cmp m2/d1/f root/d1/f && cat m1/d1/f)" private
umount m1 m2
mkdir m3
unshare -U sleep 30 &
ns=$!
sleep 0.3
echo '0 100000 65536' >/proc/$ns/uid_map
echo '0 100000 65536' >/proc/$ns/gid_map
if $S mount n1:1 m3 --userns /proc/$ns/ns/user 2>idmap.err; then
	t_eq "through a user namespace root is 100000" "$(stat -c %u:%g m3/d1/f)" 100000:100000
	umount m3
elif grep -q 'takes no id-mapped' idmap.err; then
	skip "through a user namespace root is 100000" "this file system has no idmapped mounts"
else
	t "idmapped overlay" cat idmap.err /nonexistent
fi
kill $ns
wait 2>/dev/null
t_eq "no mounts are left" "$(grep -c "$T" /proc/self/mountinfo)" 0
done_testing
