/* One connection to a strata-shim (container/shim.h has the protocol): requests with answers in any order, events between.
 * Thread: the main loop's. */
#ifndef NODE_ENGINE_SHIM_CLIENT_H
#define NODE_ENGINE_SHIM_CLIENT_H

#include "base/rpc.h"
#include "ext/json.h"

struct shim;

/* reply: borrowed, NULL when r < 0; f: its frame, whose descriptors may be taken; e: taken. */
typedef void shim_reply_fn(void *arg, const struct json *reply, struct rpc_frame *f, int r,
			   struct err *e);

struct shim_handlers {
	void (*on_event)(void *arg, const char *event, const struct json *ev);
	void (*on_closed)(void *arg); /* after the last event; s may be freed here */
	void *arg;
};

/* fd: connected, taken also on failure. */
int shim_open(struct loop *l, int fd, const struct shim_handlers *h, struct shim **ret,
	      struct err **e);
/* Pending requests are forgotten: their functions are not called.  NULL: no effect. */
void shim_close(struct shim *s);
/* request: taken; gets its number here.  fds: duplicated.  fn is called once, later, unless the shim is closed before; NULL:
 * nobody waits.  A failure to send is told by fn, too. */
void shim_call(struct shim *s, struct json *request, const int *fds, unsigned int n_fds,
	       shim_reply_fn *fn, void *arg);
struct json *shim_request(const char *op);

#endif
