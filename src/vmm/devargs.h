/* Device options of the command line: --disk, --net and the rest, into struct vm_device. */
#ifndef VMM_DEVARGS_H
#define VMM_DEVARGS_H

#include "base/opt.h"
#include "vmm/config.h"

struct vm;

struct devargs {
	opt_list disk, net, port;
	char *vsock;
	bool balloon, rng;
	struct devarg *first; /* parsed; private */
};

#define DEVARGS_OPTS(T, f)                                                                           \
	OPT(T, f.disk, LIST, "disk", 0, "path=P[,format=raw|qcow2][,readonly][,id=ID][,...]",        \
	    "a virtio disk (also serial=S, iops=N, bps=N, queues=N, direct, socket=P); repeatable"), \
		OPT(T, f.net, LIST, "net", 0, "tap=IF[,mac=M][,queues=N][,...]",                     \
		    "a virtio NIC (also id=ID, mtu=N, vhost=on|off|auto, socket=P); repeatable"),    \
		OPT(T, f.port, LIST, "port", 0, "name=N,socket=P",                                   \
		    "a virtio-console port; repeatable"),                                            \
		OPT(T, f.vsock, STR, "vsock", 0, "cid=N[,socket=P]", "a virtio socket device"),      \
		OPT(T, f.balloon, FLAG, "balloon", 0, NULL, "a virtio memory balloon"),              \
		OPT(T, f.rng, FLAG, "rng", 0, NULL, "a virtio source of randomness")

/* Check and split; nothing is opened. */
int devargs_parse(struct devargs *a, struct err **e);
/* dev_create() each. -ENOENT: this build has no such device. */
int devargs_create(struct devargs *a, struct vm *vm, struct err **e);
void devargs_done(struct devargs *a); /* the option lists are the caller's opt_done() */

#endif
