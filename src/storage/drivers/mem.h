/* For tests: what the next memory disk that this thread opens begins with, and a journal of all that reaches it. */
#ifndef STORAGE_MEM_H
#define STORAGE_MEM_H

#include "storage/storage.h"

struct mem_event {
	enum disk_op op; /* DISK_WRITE, DISK_WRITE_ZEROES, DISK_DISCARD, DISK_FLUSH */
	uint64_t off, len;
	uint8_t *data; /* DISK_WRITE */
};
struct mem_journal {
	const void *initial; /* contents at open, or NULL */
	uint64_t initial_len;
	bool record;
	struct mem_event *v; /* the caller's to free */
	size_t n, cap;
	/* The requests that change something (or flush) number fail_from to fail_from + fail_n - 1, from 1, end with
	 * -fail_errno and do nothing.  0: none. */
	size_t fail_from, fail_n, seen, failed;
	int fail_errno;
};
extern _Thread_local struct mem_journal *mem_journal_next; /* taken by the open; outlives the disk */

#endif
