# Other people's tools read what we write, and we read what they write.
. "$SOURCE/tests/lib.sh"
requires root cmd:skopeo cmd:umoci cmd:oci-image-tool cmd:busybox

cd "$T" || exit 1
S="strata-image --store $T/store -q"
mkdir -p root/bin root/etc root/tmp
cp "$(command -v busybox)" root/bin/busybox
ln -s busybox root/bin/sh
ln root/bin/busybox root/bin/ls
echo hello >root/etc/motd
chmod 1777 root/tmp
chown 3:4 root/etc/motd
truncate -s 3M root/etc/sparse
setfattr -n user.test -v value root/etc/motd 2>/dev/null
tree() { (cd "$1" && find . -printf '%P %y %m %U:%G %s %l %n\n' | sort && find . -type f -exec sha256sum {} + | sort -k2); }

tar --xattrs --sparse -C root -cf root.tar .
for z in gzip xz bzip2 zstd; do
	$z -kc root.tar >"root.tar.$z"
	t "import a root tarball compressed by $z" $S import "root.tar.$z" --name "z-$z:1" --unpack
done
t "import a plain root tarball" $S import root.tar --name plain:1 --cmd /bin/sh
t "copy" $S copy plain:1 copied
t_eq "the copy equals the source" "$(tree copied | sed '1,/^ d/s/^ d .*//')" "$(tree root | sed '1,/^ d/s/^ d .*//')"
t_eq "extended attributes" "$(getfattr --only-values -n user.test copied/etc/motd 2>/dev/null)" \
	"$(getfattr --only-values -n user.test root/etc/motd 2>/dev/null)"
t_eq "holes stay holes" "$(stat -c %b copied/etc/sparse)" 0

t "export an OCI directory" $S export -f oci-dir layout plain:1
t "oci-image-tool validates it" oci-image-tool validate --type image --ref name=1 layout
t "skopeo inspects it" skopeo inspect oci:layout:1
t "umoci unpacks it" umoci raw unpack --image layout:1 theirs
t_eq "umoci's tree is ours" "$(tree theirs | grep -v '^ d')" "$(tree copied | grep -v '^ d')"
t "skopeo reads the store in place" skopeo inspect "oci:$T/store:docker.io/library/plain:1"
t "export an OCI archive" $S export oci.tar plain:1
t "skopeo reads it" skopeo copy -q oci-archive:oci.tar:1 dir:d1
t "export a docker archive" $S export -f docker docker.tar plain:1 z-gzip:1
t "skopeo reads it" skopeo copy -q docker-archive:docker.tar:plain:1 dir:d2
t_eq "equal content, one layer in it" "$(tar tf docker.tar | grep -c layer.tar)" 1

t "skopeo writes a docker archive" skopeo copy -q oci:layout:1 docker-archive:theirs.tar:their/image:7
t "we read it" $S import theirs.tar --unpack
t "its name came with it" $S inspect their/image:7
t "skopeo writes an OCI archive" skopeo copy -q oci:layout:1 oci-archive:theirs-oci.tar:x
t "we read it under our name" $S import theirs-oci.tar --name from/skopeo:1
t "umoci makes an image" sh -c 'umoci init --layout um && umoci new --image um:a && umoci insert --image um:a root/etc /etc'
t "we read it" $S import um --name from/umoci:a --unpack
t "and copy it" $S copy from/umoci:a um-tree
t_eq "what umoci put in" "$(cat um-tree/etc/motd)" hello
t "names leave" $S rm plain:1 z-gzip:1 z-xz:1 z-bzip2:1 z-zstd:1 their/image:7 from/skopeo:1 from/umoci:a
t "gc" $S gc
t_eq "nothing is left" "$(find store/blobs store/layers store/tmp store/ingest -mindepth 1 ! -name 'sha*' | wc -l)" 0
done_testing
