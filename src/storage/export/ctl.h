/* The control socket of a server: frames of base/rpc.h with JSON, a request and an answer each.
 *
 *	{"verb": "status"}
 *	{"verb": "throttle", "export": "a.qcow2", "params": {"iops-total": "100"}}
 *	{"verb": "resize", "export": "a.qcow2", "size": 10737418240, "shrink": false}
 *	{"verb": "stop"}
 *
 * Answers: {"ok": true, ...} or {"ok": false, "error": {"id": ..., "message": ...}}.  "export" may be missing when there is
 * one.  Who may connect is the socket file's mode (0600).  Requests are carried out one after the other.
 * Thread: main; what blocks runs on a worker. */
#ifndef STORAGE_EXPORT_CTL_H
#define STORAGE_EXPORT_CTL_H

#include "ext/json.h"
#include "storage/export/export.h"

struct ctl;

struct ctl_cfg {
	struct loop *loop;
	struct disk_export *const *x; /* borrowed */
	size_t n_x;
	/* Main thread.  status: what the server adds to the answer.  resized: after the disk's size has changed. */
	void (*status)(void *arg, struct json *answer);
	void (*resized)(void *arg, size_t export_index);
	void (*stop)(void *arg);
	void *arg;
};

int ctl_new(const struct ctl_cfg *cfg, const char *path, struct ctl **ret, struct err **e);
/* Waits for what runs.  NULL: no effect. */
void ctl_free(struct ctl *c);

#endif
