#!/bin/bash
# Every virtio device under the stock drivers of Debian's cloud kernel, in a lab host: virtio-host.sh is the test.
. "$SOURCE/tests/lib.sh"
requires root cmd:strata-vmm cmd:qemu-system-x86_64
lab=$SOURCE/lab/lab
mkdir "$T/kit"
cp "$SOURCE"/tests/lab/virtio-{host.sh,init} "$SOURCE/tests/lib.sh" "$(command -v strata-vmm)" "$T/kit/"
"$lab" --name "virtio$$" run ${LAB_ARGS:-} 1 -- sh -c \
	"'$lab' put h1 '$T/kit' /root/ && '$lab' exec --timeout 200 h1 -- env ${VSOCK+VSOCK=} CPUS=${CPUS:-1} bash /root/kit/virtio-host.sh"
