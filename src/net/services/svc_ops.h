/* What an address service does for svc.c.  Thread: the loop's. */
#ifndef NET_SERVICES_SVC_OPS_H
#define NET_SERVICES_SVC_OPS_H

#include "net/services/svc.h"

struct svc_ops {
	const char *name;
	/* Should it run for this port group? */
	bool (*wanted)(const struct portgroup *pg);
	/* The calling thread is in the network's namespace: sockets belong there.  *ret: its own state. */
	int (*start)(struct svc *s, void **ret, struct err **e);
	void (*stop)(void *state);
};

struct svc {
	struct portgroup *pg;
	struct loop *loop;
	struct svc_stats stats;
	void *state[8];
};

/* The addresses that the services answer at; NULL: none of the family. */
const struct ipaddr *svc_gateway(const struct svc *s, int family, struct ipaddr *buf);
/* A datagram socket bound to the port group's bridge, non-blocking, close-on-exec. */
int svc_udp(struct svc *s, int family, const struct ipaddr *at, uint16_t port, struct err **e);
/* A listening stream socket, likewise. */
int svc_tcp(struct svc *s, const struct ipaddr *at, uint16_t port, struct err **e);

extern const struct svc_ops svc_dhcp4, svc_ip6, svc_dns, svc_metadata;

#endif
