/* Who has which address in a port group, kept over restarts: what NICs were given and what DHCP leased to MACs
 * that no NIC has.  One text file a port group, replaced atomically.
 *
 *	lease4 10.0.0.9 52:54:00:00:00:01 1763700000        until then, seconds since 1970
 *	nic 10.0.0.5 NIC-ID                                  for good
 *
 * Thread: the loop's. */
#ifndef NET_SERVICES_LEASE_H
#define NET_SERVICES_LEASE_H

#include "base/hmap.h"
#include "base/loop.h"
#include "base/work.h"
#include "net/net.h"

struct lease {
	struct hnode by_addr, by_owner; /* owner: MAC or NIC id */
	struct ipaddr addr;
	uint8_t mac[6];	      /* leases */
	int64_t until;	      /* seconds since 1970; 0: a NIC's */
	char nic[NET_ID_MAX]; /* empty: a lease */
};

struct leases {
	struct hmap by_addr, by_owner;
	char path[256]; /* empty: memory only */
	bool dirty;
	struct timer save;
	struct loop *loop;
	struct work_pool *pool;
	struct lease_job *job; /* a write under way; NULL: none */
};

/* loop and pool NULL: saved by leases_save() and leases_close() only; else by a worker, soon after a change. */
int leases_open(struct leases *l, const char *path, struct loop *loop, struct work_pool *pool,
		struct err **e);
void leases_close(struct leases *l); /* saves first */
/* The text of such a file, which is cut up; returns how many lines made no sense and were skipped. */
unsigned int leases_parse(struct leases *l, char *text);
int leases_save(struct leases *l, struct err **e);

struct lease *lease_of_addr(struct leases *l, const struct ipaddr *a);
/* The one of a NIC in a family, or of a MAC (nic NULL, IPv4). */
struct lease *lease_of(struct leases *l, const char *nic, const uint8_t *mac, int family);
/* Gives the address to a NIC, or to a MAC until `until`; the previous owner loses it.  -ENOMEM. */
int lease_set(struct leases *l, const struct ipaddr *a, const char *nic, const uint8_t *mac,
	      int64_t until);
void lease_drop(struct leases *l, struct lease *x);
size_t leases_count(const struct leases *l);

#endif
