#!/bin/bash
# The QEMU engine by itself: an OCI image in a VM, started through node/engine.h, used, left by its daemon and found again.
. "$SOURCE/tests/lib.sh"
requires root cmd:qemu-system-x86_64 cmd:mkfs.erofs cmd:mke2fs cmd:busybox cmd:strata-image

mkdir -p "$T/root"/{bin,etc,tmp,proc,sys,dev}
cp "$(command -v busybox)" "$T/root/bin/busybox"
for a in sh cat echo; do ln -s busybox "$T/root/bin/$a"; done
echo 'root:x:0:0::/root:/bin/sh' >"$T/root/etc/passwd"
tar -C "$T/root" -cf "$T/root.tar" .
image() { strata-image --store "$T/store" -q "$@"; }
image import "$T/root.tar" --name bb:1 --cmd /bin/sh >/dev/null || skip_all "cannot import an image"
image kernel-install >/dev/null 2>"$T/err" || skip_all "no guest kernel: $(tail -n 1 "$T/err")"
image vm bb:1 "$T/vm" --size 64M -- /bin/sh -c 'trap "exit 42" TERM; while :; do if read x; then echo got $x; else sleep 0.2; fi; done'
mkdir "$T/run"
"$BUILD/tests/node/vm_engine" "${ENGINE:-qemu}" "$T/vm/vm.json" "$T/run"
