/* The queues of a tap device, as the one who moves packets uses them (sys/tap.h makes and keeps devices).
 * Spec: Documentation/networking/tuntap, linux/if_tun.h. */
#ifndef SYS_TAPQ_H
#define SYS_TAPQ_H

#include "base/err.h"

#define TAPQ_HEADER 12 /* struct virtio_net_hdr_v1 goes before each frame */

/* Attach to a queue of the tap device `name`, which is made (until the last close) when it is not there.  multi: one of
 * several queues; every one has to be opened so, and the device made so.  Returns a non-blocking descriptor. */
int tapq_open(const char *name, bool multi, struct err **e);
/* Make a handed-in descriptor ready: headers of TAPQ_HEADER bytes, non-blocking.  *is_tap false: a packet socket, which
 * carries the same headers by agreement.  -EINVAL: a tap without headers, or no such thing. */
int tapq_adopt(int fd, bool *is_tap, struct err **e);
/* What the guest can receive: TUN_F_* flags.  0 or -errno. */
int tapq_set_offload(int fd, unsigned int flags);
/* Give a queue traffic or take it off (only of a device opened with `multi`).  0 or -errno. */
int tapq_enable(int fd, bool on);

#endif
