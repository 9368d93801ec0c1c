#!/bin/bash
# The guest kernel and strata-init under strata-vmm, in a virtual host (nested, emulated): guest_vmm.py inside does it.
. "$SOURCE/tests/lib.sh"
. "$SOURCE/tests/lab/lib.sh"
[ -n "${STRATA_LONG:-}" ] || skip_all "three nested, emulated VMs take minutes: set STRATA_LONG=1"
requires root cmd:mkfs.erofs cmd:busybox cmd:dpkg-deb
lab_possible

S="strata-image --store $T/store -q"
mkdir -p "$T"/root/{bin,etc,tmp,home/web}
cp "$(command -v busybox)" "$T/root/bin/busybox"
for a in sh cat id ls sleep echo env pwd tty sha256sum kill ip hostname stty dd mount ps touch grep; do ln -s busybox "$T/root/bin/$a"; done
printf 'root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n' >"$T/root/etc/passwd"
printf 'root:x:0:\nweb:x:1001:\nextra:x:50:web\n' >"$T/root/etc/group"
tar -C "$T/root" -cf "$T/root.tar" .
$S import "$T/root.tar" --name bb:1 --cmd /bin/sh --env FROM=image >"$T/.out" 2>&1 || { diag <"$T/.out"; echo "Bail out! import"; exit 1; }
deb=${STRATA_KERNEL_DEB:-$(ls /var/cache/strata-lab/debs/linux-image-[0-9]*-cloud-amd64_*.deb 2>/dev/null | sort -V | tail -1)}
$S kernel-install ${deb:+--deb "$deb"} >"$T/.out" 2>&1 || skip_all "the distribution's kernel package cannot be had: $(tail -1 "$T/.out")"
$S vm bb:1 "$T/vm1" --attach --user web --workdir /home/web -e "A=b c" --hostname g1 -- \
	/bin/sh -c 'id; pwd; echo $FROM $A $HOME; hostname; cat; echo bad >&2; exit 7' || { echo "Bail out! vm1"; exit 1; }
$S vm bb:1 "$T/vm2" --size 16M -- /bin/sh -c 'trap "exit 42" TERM; echo main runs; while :; do sleep 0.2; done' || { echo "Bail out! vm2"; exit 1; }
# the folders with all that they name
for d in vm1 vm2; do
	python3 - "$T/$d" <<'X'
import json, os, shutil, sys
d = sys.argv[1]
vm = json.load(open(d + "/vm.json"))
for path in [vm["kernel"], vm["initrd"]] + [x["path"] for x in vm["disks"]]:
    to = f"{d}/{os.path.basename(path)}"
    if not os.path.exists(to):
        shutil.copy(path, to)
X
done
lab_use 1
lab put h1 "$T/vm1" "$T/vm2" /root/ >"$T/.lab" 2>&1 || lab_fail "the host did not take the VMs"
lab exec -n --timeout 1600 h1 -- env PATH=/mnt/strata/bin:/usr/sbin:/usr/bin:/sbin:/bin python3 -B /mnt/strata/tests/image/guest_vmm.py /root/vm1 /root/vm2
