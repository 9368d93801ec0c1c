/* The audit log: every change through the API, and every refusal of a caller, with who, from where, what and how it ended.
 *
 * LOG-DIR/audit.jsonl, a JSON object a line, rotated by size.  Bodies are not in it, so secrets are not either.
 * Thread: the main loop's. */
#ifndef NODE_AUDIT_H
#define NODE_AUDIT_H

#include "base/err.h"

struct audit;
struct api_call;

int audit_open(const char *path, struct audit **ret, struct err **e);
void audit_close(struct audit *a); /* NULL: no effect */
/* a NULL: no effect.  error_id: NULL when it went well. */
void audit_write(struct audit *a, const struct api_call *c, unsigned int status,
		 const char *error_id);

#endif
