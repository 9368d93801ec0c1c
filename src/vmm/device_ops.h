/* What a device implements.  The core (machine.c) owns the life cycle and rolls back; a driver does its part
 * and may rely on what is promised here.
 *
 *	construct   main thread, VM not running.  Opens outside resources (this is before the jail) and checks the
 *	            config.  d is zeroed but for ops, id and vm.  On failure destruct() is called.
 *	plug        main thread.  Claims bus ranges, PCI slot, interrupts.  On failure unplug() is called.
 *	(running)   register callbacks (bus_ops, pci bar ops) come on vCPU threads with d->lock held, one at a time
 *	            a device.  Queue work belongs to the device's I/O loop (vm_io_loop()), never to a vCPU thread.
 *	quiesce     main thread, all vCPUs parked, d->lock not held.  When it returns the device touches neither
 *	            guest memory nor its own saved state nor interrupts: nothing is in flight, its loop callbacks
 *	            are off.  Requests that were popped are completed first (or are part of the saved state).
 *	resume      main thread, vCPUs still parked: the opposite, and look at the queues again (a kick may have
 *	            been missed).  Also called after plug at the start and after a restore.
 *	reset       main thread, quiesced: back to the state after plug (guest reset).  A reset that the guest asks
 *	            of one device through its own registers is the driver's business.
 *	save/load   main thread, quiesced: state table; after_load re-validates and re-arms.
 *	unplug      main thread, quiesced.  destruct: takes a half-built device, cannot fail.
 *
 * Pairs nest: construct/destruct around plug/unplug around resume/quiesce.  Every op but construct, destruct and
 * type may be NULL: nothing to do. */
#ifndef VMM_DEVICE_OPS_H
#define VMM_DEVICE_OPS_H

#include <pthread.h>
#include "base/err.h"
#include "base/list.h"
#include "vmm/config.h"

struct vm;
struct dev;
struct save_desc; /* base/save.h */

/* Receives one figure; name is a short static word ("requests"). */
typedef void dev_stat_fn(void *arg, const char *name, uint64_t value);

struct device_ops {
	const char *type; /* "virtio-rng" */
	size_t instance_size; /* the derived struct, whose first member is struct dev (or struct pci_dev) */
	int (*construct)(struct dev *d, const struct vm_device *cfg, struct err **e);
	void (*destruct)(struct dev *d);
	int (*plug)(struct dev *d, struct vm *vm, struct err **e);
	void (*unplug)(struct dev *d);
	void (*reset)(struct dev *d);
	void (*quiesce)(struct dev *d);
	void (*resume)(struct dev *d);
	const struct save_desc
		*state; /* of the derived struct, offsets from its start; NULL: nothing to save */
	/* Figures for `ctl stats`; main thread, device running, so read atomically. */
	void (*stats)(struct dev *d, dev_stat_fn *put, void *arg);
	/* `ctl set {"device": id, key: value}`; main thread.  -ENOENT: no such key (the core words that error). */
	int (*set)(struct dev *d, const char *key, uint64_t value, struct err **e);
};

struct dev {
	const struct device_ops *ops;
	char id[VM_ID_MAX + 1];
	struct vm *vm;
	pthread_mutex_t
		lock; /* held around register callbacks; a driver may take it elsewhere, never for long */
	struct list node; /* the VM's devices, in plug order */
	bool plugged;
};

/* NULL: no such type.  All types are listed in devtab.c. */
const struct device_ops *device_find(const char *type);
/* The n-th type for help texts, NULL past the end. */
const struct device_ops *device_at(unsigned int n);

/* Make a device (construct) and hook it to the VM; it is plugged by vm_plug_all() or at once when the VM runs.
 * -EEXIST: the id is taken; -ENOENT: no such type. */
int dev_create(struct vm *vm, const struct vm_device *cfg, struct dev **ret, struct err **e);
/* The same with ops given: for built-in devices and tests. */
int dev_create_ops(struct vm *vm, const struct device_ops *ops, const struct vm_device *cfg,
		   struct dev **ret, struct err **e);
int dev_plug(struct dev *d, struct err **e);
/* Unplug when plugged, destruct, free.  NULL: no effect. */
void dev_destroy(struct dev *d);
struct dev *dev_find(struct vm *vm, const char *id);

#endif
