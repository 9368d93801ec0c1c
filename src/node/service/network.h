/* Networks of the daemon: objects "network" and "portgroup" of the inventory, made real by the net room, and the NICs of
 * instances on them.
 *
 * A network comes with a port group of its own name, so that `--net NAME` works at once; further port groups are further segments
 * (a bridge and a subnet each) of the same network namespace.  "default" is there from the first start.  The host is not touched
 * before the first NIC: a daemon without instances makes no bridge.
 *
 * NICs are not kept here: after a restart of the daemon the instance room says which run, and networks_apply() makes the host so.
 * Thread: the main loop's. */
#ifndef NODE_SERVICE_NETWORK_H
#define NODE_SERVICE_NETWORK_H

#include "net/net.h"
#include "node/engine.h"
#include "gen/network.h"
#include "node/node.h"

struct networks;

int networks_open(struct node *n, struct networks **ret, struct err **e);
void networks_close(struct networks *ns); /* the host stays as it is; NULL: no effect */

/* One NIC of an instance, resolved from its spec. */
struct nic_want {
	const char *instance, *project, *hostname;
	const struct api_instance_nic *spec;
	unsigned int index; /* 0: gets the default route and is eth0 */
	bool vm;
	int netns_fd;				 /* container: where the other end goes */
	const char *netns;			 /* the same as a path, when netns_fd is -1 */
	const struct api_cloud_init *cloud_init; /* VM: for the metadata service; may be NULL */
	const struct api_instance_port
		*ports; /* networks_apply(): published ports, host's filled in */
	size_t n_ports;
};

/* After a restart: what runs, all at once, before anything else; want: n of them.  What an earlier process left behind is
 * removed.  Faults of single NICs are logged. */
int networks_apply(struct networks *ns, const struct nic_want *want, size_t n, struct err **e);

/* Connect (or change in place); ret (may be NULL) is filled: the caller's, tap descriptors included. */
int networks_nic_put(struct networks *ns, const struct nic_want *w, struct plan_nic *ret,
		     struct err **e);
int networks_nic_remove(struct networks *ns, const char *instance, const char *nic,
			struct err **e); /* not there: 0 */
/* Servers and domain for an instance's resolv.conf, as its first NIC's network says. */
int networks_dns(struct networks *ns, const struct nic_want *w, struct ipaddr servers[NET_DNS_MAX],
		 unsigned int *n_servers, char domain[128]);

/* Ports of the host that lead to an instance's first NIC.  A host port of 0 is chosen and written back. */
int networks_port_put(struct networks *ns, const char *instance, const char *nic,
		      unsigned int index, struct api_instance_port *p, struct err **e);
int networks_port_remove(struct networks *ns, const char *instance, unsigned int index,
			 struct err **e); /* not there: 0 */

/* For status and statistics; both are the caller's.  NULL: not connected. */
struct json *networks_nic_show(struct networks *ns, const char *instance, const char *nic);
int networks_nic_stats(struct networks *ns, const char *instance, const char *nic,
		       struct api_nic_stats *ret);

/* Objects.  body: a validated "network" or "portgroup" of the API.  *ret borrowed. */
int networks_create(struct networks *ns, const struct api_network *body, struct object **ret,
		    struct err **e);
int networks_remove(struct networks *ns, struct object *network, struct err **e);
int portgroups_create(struct networks *ns, const struct api_portgroup *body, struct object **ret,
		      struct err **e);
int portgroups_remove(struct networks *ns, struct object *portgroup, struct err **e);
/* After inventory_change() of one of them. */
int networks_changed(struct networks *ns, struct object *o, struct err **e);

extern const struct task_verb *const network_verbs[]; /* NULL-terminated */

#endif
