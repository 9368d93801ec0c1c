/* What this host is: processors, memory, kernel; read once, the changing parts anew each time.
 * vCPU capacity is sockets x cores x threads; MHz is that times the clock rate. */
#ifndef NODE_HOST_H
#define NODE_HOST_H

#include "base/err.h"
#include "gen/host.h"
#include "node/inventory.h"

struct host_cpu {
	unsigned int sockets, cores, threads; /* cores a socket, threads a core */
	unsigned int cpus;		      /* online logical processors */
	unsigned int mhz;		      /* nominal, of one processor */
	char model[96];
};

struct host_memory { /* bytes */
	uint64_t total, available, swap, swap_free;
};

/* The topology of /proc/cpuinfo text; unreadable parts give 1 socket of n cores. */
void host_cpu_parse(const char *cpuinfo, struct host_cpu *ret);
int host_cpu_read(struct host_cpu *ret, struct err **e);
int host_memory_read(struct host_memory *ret, struct err **e);
static inline unsigned int host_vcpus(const struct host_cpu *c)
{
	return c->sockets * c->cores * c->threads;
}
/* What the host is: all of st but engines and instances.  st: set to its defaults first. */
int host_fill(struct api_host_status *st, struct err **e);

/* The inventory's object of this host, made at the first start.  name NULL: the host name, as far as it is one for objects.
 * *ret: borrowed. */
int host_register(struct inventory *inv, const char *name, struct object **ret, struct err **e);

#endif
