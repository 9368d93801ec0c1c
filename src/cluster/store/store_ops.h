/* For implementers of a store; users include cluster/cluster.h. */
#ifndef CLUSTER_STORE_OPS_H
#define CLUSTER_STORE_OPS_H

#include "cluster/cluster.h"

struct store_ops {
	const char *name;
	int (*load)(struct store *s, store_each_fn *fn, void *arg, struct err **e);
	int (*apply)(struct store *s, const struct store_change *changes, size_t n, struct err **e);
	/* As store_apply_soon(); NULL: apply. */
	int (*apply_soon)(struct store *s, const struct store_change *changes, size_t n,
			  struct err **e);
	int (*backup)(struct store *s, const char *path, struct err **e); /* may be NULL */
	void (*close)(struct store *s);
};

struct store { /* first member of every implementation's struct */
	const struct store_ops *ops;
};

/* The messages of the three refusals, the same for every store. */
int store_refuse_exists(const struct store_record *r, struct err **e);
int store_refuse_changed(const struct store_record *r, int64_t expect, int64_t found,
			 struct err **e);
int store_refuse_missing(const struct store_record *r, struct err **e);

#endif
