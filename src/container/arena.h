/* Memory that is freed all at once: what is read from one config.json lives and dies together.
 * Never returns NULL (running out ends the program: strata-oci and strata-shim's start only). Thread: one at a time. */
#ifndef CONTAINER_ARENA_H
#define CONTAINER_ARENA_H

#include "base/cleanup.h"
#include "base/types.h"

struct arena {
	struct arena_chunk *chunks;
	char *p, *end;
};

void *arena_alloc(struct arena *a, size_t n); /* zeroed, aligned for anything */
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_printf(struct arena *a, const char *fmt, ...) _printf_(2, 3);
void arena_done(struct arena *a); /* twice: no effect */

#endif
