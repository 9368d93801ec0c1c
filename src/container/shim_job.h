/* Work of the shim that may block (create, exec, freeze, delete, ...) runs in a child: a copy of the shim that calls the
 * container library and sends one reply back.  Memory it took goes with it, and a hang or a crash in it is one failed request.
 * What such a child starts becomes the shim's child when it exits (the shim is a subreaper).  Thread: the shim's loop. */
#ifndef CONTAINER_SHIM_JOB_H
#define CONTAINER_SHIM_JOB_H

#include "base/rpc.h"
#include "container/jdoc.h"

struct shim_job;

/* In the child.  Add `,"name":value` members to the reply, and fds (they are sent, then closed). */
typedef int shim_job_fn(void *arg, struct rpc_frame *reply, struct err **e);
/* In the shim, once, unless the job was dropped: the reply {"ok":...} with its fds, which may be taken; doc is its tree and
 * lives as long as the call.  A child that dies without a word makes a reply of failure here. */
typedef void shim_job_done_fn(struct shim_job *j, struct rpc_frame *reply, const struct jval *doc);

struct shim_job {
	struct list node;
	struct rpc_conn conn;
	pid_t pid;
	const char *what; /* borrowed */
	shim_job_done_fn *done;
	void *data;  /* the caller's */
	void *owner; /* who gets the reply; the caller's, may be set to NULL meanwhile */
	int64_t seq;
};

/* Starts the child and adds the job to `jobs`; the job frees itself after done(). */
int shim_job_start(struct loop *l, struct list *jobs, const char *what, shim_job_fn *fn, void *arg,
		   shim_job_done_fn *done, struct shim_job **ret, struct err **e);
/* `{"ok":false,"error":{...}}`, or without the outer braces' first member for events. */
void shim_error_json(struct buf *b, const struct err *e, int r);

#endif
