/* Port and memory-mapped I/O: who answers at which address.
 *
 * Between: vCPU threads above (bus_read, bus_write on an exit); devices below.
 * Thread:  bus_read/bus_write on any vCPU thread.  bus_add/bus_remove on the main thread, or inside a register
 *          callback (a BAR that moves).  A struct bus_range lives in the device and must outlive its bus_remove()
 *          until the vCPUs were parked once (devices are only freed then).
 * Trust:   base and size of a range can be the guest's choice (BARs): overlaps are refused, not asserted. */
#ifndef VMM_BUS_H
#define VMM_BUS_H

#include <pthread.h>
#include "base/err.h"
#include "base/types.h"
#include "base/vec.h"

struct dev;
struct bus_range;

/* off: from the start of the range; size: 1, 2, 4 or 8, and the access lies inside the range.  Called with the
 * owner's lock held.  A read gives the value in the low `size` bytes. */
struct bus_ops {
	uint64_t (*read)(struct bus_range *r, uint64_t off, unsigned int size);
	void (*write)(struct bus_range *r, uint64_t off, unsigned int size, uint64_t value);
};

struct bus_range {
	uint64_t base, size;	   /* a port number, or a gpa; bytes */
	const struct bus_ops *ops; /* read or write NULL: reads as all ones, writes are dropped */
	struct dev *owner;	   /* whose lock is taken; NULL: no lock */
	void *opaque;		   /* the caller's */
	const char *name;
	bool active; /* private: on a bus */
};

struct bus {
	const char *name;
	pthread_rwlock_t lock;
	VEC(struct bus_range *) ranges; /* sorted by base, disjoint */
};

int bus_init(struct bus *b, const char *name);
void bus_done(struct bus *b);

/* -EEXIST: overlaps another range; -EINVAL: empty or wraps; -EBUSY: r is on a bus already. */
int bus_add(struct bus *b, struct bus_range *r, struct err **e);
/* Not on the bus: no effect. */
void bus_remove(struct bus *b, struct bus_range *r);

/* False when nobody is there (reads give all ones).  An access that straddles the end of a range counts as
 * nobody's. */
bool bus_read(struct bus *b, uint64_t addr, unsigned int size, uint64_t *value);
bool bus_write(struct bus *b, uint64_t addr, unsigned int size, uint64_t value);

#endif
