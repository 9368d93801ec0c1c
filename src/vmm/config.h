/* What the command line (or stratad, or a hot-plug request) asks of a VM, split into typed fields.
 * main.c fills it, machine.c and the devices read it; strings are borrowed and live as long as the VM.
 *
 * A path names something to open; where the parent handed a descriptor in, fd is >= 0 and is used instead.
 * A device owns the descriptors of its config after construct() succeeded (it closes them in destruct). */
#ifndef VMM_CONFIG_H
#define VMM_CONFIG_H

#include "base/types.h"

#define VM_ID_MAX     63
#define VM_CPUS_MAX   255
#define VM_QUEUES_MAX 16

struct vm_disk {
	const char *path; /* file or block device, or a storage URL that storage/storage.h knows */
	const char *
		format; /* "raw", "qcow2"; NULL: probed (raw is only probed for what nothing else claims) */
	const char *serial; /* at most 20 bytes; NULL: the id */
	const char *socket; /* vhost-user-blk back end instead of path */
	bool readonly;
	bool direct;	     /* O_DIRECT */
	uint64_t iops, bps;  /* limits; 0: none */
	unsigned int queues; /* 0: one per vCPU, at most VM_QUEUES_MAX */
	uint16_t queue_size; /* 0: 256 */
};

enum vm_net_vhost { VM_NET_VHOST_AUTO, VM_NET_VHOST_ON, VM_NET_VHOST_OFF };

struct vm_net {
	const char *tap;       /* interface name, or NULL */
	const char *socket;    /* vhost-user back end, or NULL */
	int fd[VM_QUEUES_MAX]; /* tap queues handed in; n_fd of them */
	unsigned int n_fd;
	uint8_t mac[6];
	bool has_mac;	     /* else one is made from the VM's uuid and the id */
	unsigned int queues; /* queue pairs; 0: 1 */
	uint16_t mtu;	     /* 0: not told to the guest */
	enum vm_net_vhost vhost;
};

struct vm_console_port {
	const char *name;   /* "org.qemu.guest_agent.0"; NULL for port 0, the console */
	const char *socket; /* AF_UNIX stream socket that we listen on; NULL: stdio (port 0 only) */
};

struct vm_console {
	struct vm_console_port port[8];
	unsigned int n_ports;
};

struct vm_vsock {
	uint32_t cid; /* 3..0xfffffffe */
	const char *
		socket; /* user-space back end: guest connects to port P go to "<socket>_P"; a client of
				* <socket> says "CONNECT P\n".  NULL: /dev/vhost-vsock */
};

struct vm_balloon {
	bool no_deflate_on_oom;
	bool no_reporting; /* no free page reporting */
};

struct vm_device {
	const char *type; /* device_ops.type: "virtio-blk" */
	const char *id;	  /* unique in the VM; main.c makes one ("disk0") when the user gave none */
	union {
		struct vm_disk disk;
		struct vm_net net;
		struct vm_console console;
		struct vm_vsock vsock;
		struct vm_balloon balloon;
	};
};

#endif
