/* A long operation as its caller sees it: progress out, cancel in.  Every function of this room that may take
 * longer than a system call takes one; NULL means nobody watches and nobody cancels. */
#ifndef IMAGE_OP_H
#define IMAGE_OP_H

#include <stdatomic.h>
#include "base/err.h"

enum image_phase {
	IMAGE_RESOLVE,
	IMAGE_DOWNLOAD,
	IMAGE_UPLOAD,
	IMAGE_UNPACK,
	IMAGE_PACK,
	IMAGE_RUN
};

struct image_progress {
	enum image_phase phase;
	const char *item;      /* a digest, or what is being done; lives as long as the call */
	uint64_t done, total;  /* bytes; total 0: unknown */
	bool finished, reused; /* reused: was there already */
};

struct image_op {
	/* May be NULL.  Called on any worker thread, never two at once; must not block long. */
	void (*progress)(void *arg, const struct image_progress *p);
	void *arg;
	atomic_bool cancelled; /* set from any thread */
	atomic_flag busy;      /* private: serialises progress() */
};

void image_op_report(struct image_op *op, const struct image_progress *p);
/* -ECANCELED with *e set once op is cancelled, else 0. */
int image_op_check(struct image_op *op, struct err **e);

#endif
