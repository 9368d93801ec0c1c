/* Error chains: an errno and a stable id for programs, a message with context for people.
 *
 * Functions that can fail return 0 (or a count) or -errno and take `struct err **e` last; e may be NULL
 * when the caller only wants the number.  *e must be NULL on entry.  The function that finds the fault
 * calls err_set() or err_sys(); each caller adds what it was doing with err_wrap(); only the edge (CLI,
 * REST, log) prints.  A function returns an error or logs it, never both.
 *
 *	return err_set(e, EINVAL, "disk.empty", "'%s' has no size", id);       -> -EINVAL
 *	return err_wrap(e, r, "attach '%s'", id);                              -> r, "attach 'd0': ..."
 *
 * Thread: a chain belongs to one thread at a time.  Running out of memory inside these functions yields a
 * shorter message, never a crash. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>
#include "base/cleanup.h"
#include "base/types.h"

#define ERR_ID_MAX 48

struct err;

/* Record a fault.  num: a positive errno.  id: "noun.fault", from schema/errors.json where an API can
 * return it; copied, cut at ERR_ID_MAX.  Returns -num. */
int err_set(struct err **e, int num, const char *id, const char *fmt, ...) _printf_(4, 5);
int err_setv(struct err **e, int num, const char *id, const char *fmt, va_list ap) _printf_(4, 0);

/* Record a failed system call: the message gets ": " and the text of num; the id is "sys.<errno name>". */
int err_sys(struct err **e, int num, const char *fmt, ...) _printf_(3, 4);

/* Put "context: " before the message of *e.  With e set but *e NULL (the callee gave only a number) a chain
 * is made from r.  Returns r. */
int err_wrap(struct err **e, int r, const char *fmt, ...) _printf_(3, 4);

/* All take NULL: 0, "", "no error". */
int err_num(const struct err *e);	  /* positive errno */
const char *err_id(const struct err *e);  /* lives as long as e */
const char *err_msg(const struct err *e); /* lives as long as e */

void err_free(struct err *e);
/* Free *e and set it to NULL, to use the same variable again. */
void err_clear(struct err **e);
/* Hand src's chain to dst (dropped when dst is NULL). */
void err_move(struct err **dst, struct err **src);

/* "ENOENT" for 2; "E123" for an unknown number (in a static buffer per thread). */
const char *err_name(int num);

DEFINE_CLEANUP(struct err *, err_free);

#ifdef __clang_analyzer__
/* What the analyzer cannot see from here: these never return 0, and err_wrap() returns what it is given. */
#define err_never_zero(call)                     \
	({                                       \
		int _r = (call);                 \
		if (_r >= 0)                     \
			__builtin_unreachable(); \
		_r;                              \
	})
#define err_set(...) err_never_zero((err_set)(__VA_ARGS__))
#define err_sys(...) err_never_zero((err_sys)(__VA_ARGS__))
#define err_wrap(e, r, ...)                         \
	({                                          \
		int _given = (r);                   \
		(err_wrap)(e, _given, __VA_ARGS__); \
		_given;                             \
	})
#endif

#endif
