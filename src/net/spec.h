/* Checks of single objects, shared by net_spec_check() and the one-at-a-time calls of net.c. */
#ifndef NET_SPEC_H
#define NET_SPEC_H

#include "net/net.h"

int spec_check_network(const struct net_network *s, struct err **e);
/* Also the gateway: filled in by spec_gateway() when none is named. */
int spec_check_portgroup(const struct net_portgroup *s, struct err **e);
int spec_check_group(const struct net_group *s, struct err **e);
int spec_check_nic(const struct net_nic *s, struct err **e);
/* What only shows together with the port group: addresses inside the subnet, not the gateway's. */
int spec_check_nic_in(const struct net_nic *s, const struct net_portgroup *pg, struct err **e);
int spec_check_forward(const struct net_forward *s, struct err **e);
/* Two port groups of one network, or of two routed ones. */
int spec_check_pair(const struct net_portgroup *a, const struct net_portgroup *b, struct err **e);

struct ipaddr spec_gateway(const struct net_portgroup *s, int family); /* family 0: none */

#endif
