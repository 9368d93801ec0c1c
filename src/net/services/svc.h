/* The address services of one port group: DHCPv4, DHCPv6 and router advertisements, DNS, metadata.  Sockets live in
 * the network's namespace, bound to the bridge; the loop drives them.  Thread: the loop's. */
#ifndef NET_SERVICES_SVC_H
#define NET_SERVICES_SVC_H

#include "net/engine.h"

struct svc_stats {
	uint64_t dhcp4, dhcp6, ra, dns, dns_forwarded, http, refused;
};

/* pg outlives the services.  On failure nothing runs. */
int svc_start(struct portgroup *pg, struct svc **ret, struct err **e);
void svc_stop(struct svc *s); /* NULL: no effect */
void svc_stats(const struct svc *s, struct svc_stats *ret);

#endif
