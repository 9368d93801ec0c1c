/* Scope-bound cleanup: `_cleanup_(freep) char *s = NULL;`, `_cleanup_(closep) int fd = -1;`.
 * Give ownership away with TAKE()/TAKE_FD(), which leave NULL/-1 behind.  Cleaners keep errno. */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <dirent.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

/* Makes `static inline void func##p(type *p)` for `void func(type)`. */
#define DEFINE_CLEANUP(type, func)               \
	static inline void func##p(type *p)      \
	{                                        \
		if (*p) {                        \
			int saved_errno = errno; \
			func(*p);                \
			errno = saved_errno;     \
		}                                \
	}                                        \
	struct cleanup_semicolon_##func

#define TAKE(p)                            \
	({                                 \
		__typeof__(p) _take = (p); \
		(p) = NULL;                \
		_take;                     \
	})
#define TAKE_FD(fd)                  \
	({                           \
		int _take_fd = (fd); \
		(fd) = -1;           \
		_take_fd;            \
	})

static inline void freep(void *p)
{
	int saved_errno = errno;

	free(*(void **)p);
	errno = saved_errno;
}

/* Close fd when it is open, keep errno, return -1 so that `fd = safe_close(fd)` forgets it. */
static inline int safe_close(int fd)
{
	if (fd >= 0) {
		int saved_errno = errno;

		close(fd);
		errno = saved_errno;
	}
	return -1;
}

static inline void closep(int *fd)
{
	*fd = safe_close(*fd);
}

DEFINE_CLEANUP(FILE *, fclose);
DEFINE_CLEANUP(DIR *, closedir);

#endif
