/* The log file of a container: lines from two streams, in one of three formats, rotated by size.
 *
 * A line is written when it is complete, or when SHIM_LINE_MAX bytes of it have come.  A write that fails (no space) loses
 * what it held, counts it, and the next one is tried again: a full disk does not stop the container.  Nothing is synced.
 * Thread: one. */
#ifndef CONTAINER_SHIM_LOG_H
#define CONTAINER_SHIM_LOG_H

#include "base/buf.h"
#include "base/err.h"

#define SHIM_LINE_MAX 16384 /* as Docker and containerd cut */

enum shim_log_format {
	SHIM_LOG_JSON, /* Docker's json-file: {"log":"text\n","stream":"stdout","time":"..."} */
	SHIM_LOG_CRI,  /* "TIME stdout F text\n", P for a part of a line */
	SHIM_LOG_RAW,  /* the bytes */
};

struct shim_log { /* zeroed; private but for the counters */
	int fd;
	char *path; /* NULL: no log */
	enum shim_log_format format;
	uint64_t max_size;	/* bytes; 0: no rotation */
	unsigned int max_files; /* with the current one; 0 counts as 1 */
	uint64_t size;		/* of the current file */
	uint64_t bytes, dropped;
	int fault; /* errno of the last write when it failed; 0 */
	struct {
		char s[SHIM_LINE_MAX + 1];
		size_t n;
	} part[2];
	struct buf out;
};

/* "json-file", "cri", "raw"; -EINVAL. */
int shim_log_format_from_name(const char *name, enum shim_log_format *ret);
/* Appends to path (made with mode 0640). */
int shim_log_open(struct shim_log *l, const char *path, enum shim_log_format format,
		  uint64_t max_size, unsigned int max_files, struct err **e);
/* stream: 0 standard output, 1 standard error.  real: nanoseconds since 1970. */
void shim_log_add(struct shim_log *l, int stream, const char *p, size_t n, nsec_t real);
/* Lines without an end, at the end. */
void shim_log_finish(struct shim_log *l, nsec_t real);
/* Somebody renamed the file: begin a new one at the path. */
int shim_log_reopen(struct shim_log *l, struct err **e);
void shim_log_close(struct shim_log *l); /* twice, or never opened: no effect */

#endif
