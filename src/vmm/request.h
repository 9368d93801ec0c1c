/* The control protocol's requests: one flat JSON object of strings, whole numbers and booleans.
 *	{"verb": "snapshot", "dir": "/tmp/s"}
 * A reader of its own keeps JSON libraries out of this process.  Trust: the peer is hostile. */
#ifndef VMM_REQUEST_H
#define VMM_REQUEST_H

#include "base/err.h"
#include "base/types.h"

#define REQUEST_MAX_FIELDS 32

struct request_field {
	char *key;
	enum { REQUEST_STRING, REQUEST_NUMBER, REQUEST_BOOL } kind;
	char *string;
	uint64_t number; /* also 0 or 1 for a bool */
};

struct request {
	struct request_field field[REQUEST_MAX_FIELDS];
	unsigned int n;
};

/* text: len bytes.  -EINVAL with the place. */
int request_parse(const char *text, size_t len, struct request *ret, struct err **e);
void request_done(struct request *r);
/* NULL: not there or not a string. */
const char *request_string(const struct request *r, const char *key);
/* -ENOENT: not there; -EINVAL: another kind. */
int request_number(const struct request *r, const char *key, uint64_t *ret);

#endif
