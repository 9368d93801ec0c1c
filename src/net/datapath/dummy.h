/* Strings by which a test pulls the dummy datapath (dummy.c). */
#ifndef NET_DATAPATH_DUMMY_H
#define NET_DATAPATH_DUMMY_H

#include "net/datapath_ops.h"

struct dummy_control {
	const char
		*fail_op; /* "port_put", "rules_run", ...: fails once, after fail_after successes */
	int fail_after;
	bool bridge_ct;
	int n_nets, n_ports;	/* on the "host" now */
	size_t n_elems;		/* elements written in all */
	uint64_t drops;		/* what every counter says */
	const char *last_rules; /* text of the tables written last */
};
extern struct dummy_control dummy;

#endif
