/* Public header of the cluster room.
 *
 * Store: where objects live, one record each, changed in atomic batches.  SQLite on a single host; the same
 * interface serves etcd in a cluster and memory in tests.  A store keeps no policy: names, schemas and cascades are
 * the inventory's.  Revisions are compared here, because only the store can do it atomically.
 *
 * Thread: one at a time. */
#ifndef CLUSTER_CLUSTER_H
#define CLUSTER_CLUSTER_H

#include "base/err.h"
#include "base/types.h"

struct store;

struct store_record {
	const char *type;    /* "instance" */
	const char *id;	     /* UUID text, unique over all types */
	const char *project; /* "" for objects that belong to none */
	const char *name;    /* unique within (type, project) */
	int64_t revision;    /* from 1 */
	const char *body;    /* JSON text */
};

struct store_change {
	enum { STORE_PUT, STORE_DELETE } op;
	struct store_record record; /* STORE_DELETE looks at id alone */
	int64_t expect;		    /* 0: must not exist; > 0: must have this revision; -1: any */
};

/* path: the database file; its folder exists.  A damaged file is refused ("db.corrupt"), never mended silently. */
int store_open_sqlite(const char *path, struct store **ret, struct err **e);
int store_open_mem(struct store **ret, struct err **e);
void store_free(struct store *s); /* NULL: no effect */
DEFINE_CLEANUP(struct store *, store_free);

/* Every record, in no order; the callback's strings live until it returns.  A negative return ends the walk. */
typedef int store_each_fn(void *arg, const struct store_record *r, struct err **e);
int store_load(struct store *s, store_each_fn *fn, void *arg, struct err **e);

/* All or nothing, on disk when it returns 0.  -EEXIST: id or name taken; -ESTALE "object.changed": a revision
 * differs; -ENOENT: not there; -ENOSPC, -EIO. */
int store_apply(struct store *s, const struct store_change *changes, size_t n, struct err **e);

/* The same without waiting for the disk: it outlives this process, and what store_apply() wrote before and after keeps its order, but
 * a power cut may take it back.  For what the host says again after a restart: status, steps of tasks. */
int store_apply_soon(struct store *s, const struct store_change *changes, size_t n, struct err **e);

/* A consistent copy beside the running store; -ENOTSUP where the store has its own means (etcd). */
int store_backup(struct store *s, const char *path, struct err **e);

#endif
