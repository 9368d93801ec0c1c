/* A disk as a vhost-user-blk back end: a front end (QEMU, strata-vmm) connects to a unix socket, shares its guest's memory
 * and rings, and the guest's virtio-blk requests come here without passing the front end.
 * Spec: QEMU's docs/interop/vhost-user.rst; virtio 1.2, 5.2 and 2.7.
 *
 * One front end at a time; when it goes, the next may come, and finds with the record of requests in flight
 * (VU_P_INFLIGHT_SHMFD) what this server, or one that was killed, had not finished.  Not offered: packed rings, the dirty
 * log (so QEMU does not migrate such a device), post-copy.
 *
 * Threads: a thread of its own carries the socket, blocking; each ring lives on an I/O thread.  What is below is for the main
 * thread.
 * Trust: messages and rings are hostile.  One thing cannot be defended against: a front end that cuts short the file behind
 * memory that it has shared ends this process by SIGBUS.  Serve those who do not trust each other from processes of
 * their own. */
#ifndef STORAGE_VHOST_USER_BLK_H
#define STORAGE_VHOST_USER_BLK_H

#include "storage/export/export.h"

struct vu_dev;

/* Borrowed and longer-lived: ts, x.  n_queues: offered, 1 to VU_QUEUES_MAX.  A stale socket file is replaced. */
int vu_blk_new(struct export_threads *ts, struct disk_export *x, const char *path,
	       unsigned int n_queues, struct vu_dev **ret, struct err **e);
/* Lets requests in flight end, tells the guest of them, closes.  NULL: no effect. */
void vu_blk_free(struct vu_dev *d);
/* disk_size() has changed: the guest is told if its front end can.  Any thread. */
void vu_blk_resized(struct vu_dev *d);
bool vu_blk_connected(const struct vu_dev *d);

#endif
