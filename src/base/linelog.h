/* The log file of a container: lines from two streams, in one of three formats, rotated by size.
 *
 * A line is written when it is complete, or when LINELOG_LINE_MAX bytes of it have come.  A write that fails (no space) loses
 * what it held, counts it, and the next one is tried again: a full disk does not stop the container.  Nothing is synced.
 * Thread: one. */
#ifndef BASE_LINELOG_H
#define BASE_LINELOG_H

#include "base/buf.h"
#include "base/err.h"

#define LINELOG_LINE_MAX 16384 /* as Docker and containerd cut */

enum linelog_format {
	LINELOG_JSON, /* Docker's json-file: {"log":"text\n","stream":"stdout","time":"..."} */
	LINELOG_CRI,  /* "TIME stdout F text\n", P for a part of a line */
	LINELOG_RAW,  /* the bytes */
};

struct linelog { /* zeroed; private but for the counters */
	int fd;
	char *path; /* NULL: no log */
	enum linelog_format format;
	uint64_t max_size;	/* bytes; 0: no rotation */
	unsigned int max_files; /* with the current one; 0 counts as 1 */
	uint64_t size;		/* of the current file */
	uint64_t bytes, dropped;
	int fault; /* errno of the last write when it failed; 0 */
	struct {
		char s[LINELOG_LINE_MAX + 1];
		size_t n;
	} part[2];
	struct buf out;
};

/* "json-file", "cri", "raw"; -EINVAL. */
int linelog_format_from_name(const char *name, enum linelog_format *ret);
/* Appends to path (made with mode 0640). */
int linelog_open(struct linelog *l, const char *path, enum linelog_format format, uint64_t max_size,
		 unsigned int max_files, struct err **e);
/* stream: 0 standard output, 1 standard error.  real: nanoseconds since 1970. */
void linelog_add(struct linelog *l, int stream, const char *p, size_t n, nsec_t real);
/* Lines without an end, at the end. */
void linelog_finish(struct linelog *l, nsec_t real);
/* Somebody renamed the file: begin a new one at the path. */
int linelog_reopen(struct linelog *l, struct err **e);
void linelog_close(struct linelog *l); /* twice, or never opened: no effect */

#endif
