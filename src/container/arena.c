/* Bump allocation; see arena.h. */
#include "container/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/xalloc.h"

#define CHUNK 32768

struct arena_chunk {
	struct arena_chunk *next;
	_Alignas(16) char data[];
};

void *arena_alloc(struct arena *a, size_t n)
{
	char *ret;

	n = ALIGN_UP(MAX(n, (size_t)1), (size_t)16);
	if ((size_t)(a->end - a->p) < n) {
		size_t size = MAX(n, (size_t)CHUNK);
		struct arena_chunk *c = xcalloc(1, sizeof(*c) + size);

		c->next = a->chunks;
		a->chunks = c;
		a->p = c->data;
		a->end = c->data + size;
	}
	ret = a->p;
	a->p += n;
	return ret;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
	char *p = arena_alloc(a, n + 1);

	memcpy(p, s, n);
	p[n] = '\0';
	return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	int n;
	char *p;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	p = arena_alloc(a, (size_t)MAX(n, 0) + 1);
	va_start(ap, fmt);
	vsnprintf(p, (size_t)MAX(n, 0) + 1, fmt, ap);
	va_end(ap);
	return p;
}

void arena_done(struct arena *a)
{
	while (a->chunks) {
		struct arena_chunk *c = a->chunks;

		a->chunks = c->next;
		free(c);
	}
	a->p = a->end = NULL;
}
