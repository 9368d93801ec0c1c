/* The daemon as one struct: what every part of it is handed.  Made in main.c, in the order of the fields. */
#ifndef NODE_NODE_H
#define NODE_NODE_H

#include "base/list.h"
#include "base/loop.h"
#include "base/metrics.h"
#include "base/work.h"
#include "node/events.h"
#include "node/inventory.h"
#include "node/task.h"

struct images;
struct networks;
struct instances;

struct audit;
struct servers;
struct node_paths {  /* owned */
	char *state; /* /var/lib/strata: database, images, volumes, instances */
	char *run;   /* /run/strata: sockets, what a reboot may forget */
	char *log;   /* /var/log/strata */
};

struct node {
	struct loop *loop;
	struct node_paths paths;
	struct metrics *metrics;
	struct work_pool *workers;
	struct inventory *inventory;
	struct events *events;
	struct images *images;	     /* node/service/image.h */
	struct networks *networks;   /* node/service/network.h */
	struct instances *instances; /* node/instance/instance.h */
	struct tasks *tasks;
	struct object *host;	 /* this one */
	struct list websockets;	 /* node/http/websocket.c */
	struct servers *servers; /* node/http/server.h */
	struct audit *audit;
	nsec_t started; /* wall clock */
};

#endif
