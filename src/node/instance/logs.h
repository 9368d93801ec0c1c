/* Reading the logs of instances.  logs_collect() blocks: a worker's; the rest is pure. */
#ifndef NODE_INSTANCE_LOGS_H
#define NODE_INSTANCE_LOGS_H

#include "base/buf.h"
#include "base/err.h"

struct node;

struct log_want {
	bool out, err;	 /* which streams */
	bool timestamps; /* each line begins with its time */
	bool has_tail;	 /* only the last `tail` lines */
	uint64_t tail;
	nsec_t since, until; /* wall clock; 0: no bound */
};

void instance_log_path(const struct node *n, const char *id, char *buf, size_t len);
/* One line of a file (without its end) as it is shown, appended to out; false: not wanted.  *fresh: out is at the beginning
 * of a line; kept from call to call. */
bool log_line_add(const struct log_want *w, const char *line, size_t len, bool *fresh,
		  struct buf *out);
/* Everything wanted, oldest first, into out_fd.  *end: offset in the newest file up to which it was read. */
int logs_collect(const struct log_want *w, const char *path, int out_fd, uint64_t *end,
		 struct err **e);

#endif
