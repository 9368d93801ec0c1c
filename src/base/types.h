/* Small types and macros that every room uses.  No functions with state, no includes of other rooms. */
#ifndef BASE_TYPES_H
#define BASE_TYPES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t gpa_t; /* guest physical address, bytes */
typedef int64_t nsec_t; /* a time or a duration, nanoseconds; signed so that differences work */

#define NSEC_PER_USEC ((nsec_t)1000)
#define NSEC_PER_MSEC ((nsec_t)1000000)
#define NSEC_PER_SEC  ((nsec_t)1000000000)
#define NSEC_FOREVER  INT64_MAX

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define TIB ((uint64_t)1 << 40)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define MIN(a, b)                                  \
	({                                         \
		__auto_type _min_a = (a);          \
		__auto_type _min_b = (b);          \
		_min_a < _min_b ? _min_a : _min_b; \
	})
#define MAX(a, b)                                  \
	({                                         \
		__auto_type _max_a = (a);          \
		__auto_type _max_b = (b);          \
		_max_a > _max_b ? _max_a : _max_b; \
	})
#define CLAMP(x, lo, hi) MIN(MAX(x, lo), hi)

/* align: a power of two.  ALIGN_UP can wrap near the end of the type: check untrusted values first. */
#define ALIGN_DOWN(x, align) ((x) & ~((__typeof__(x))(align)-1))
#define ALIGN_UP(x, align)   ALIGN_DOWN((x) + ((__typeof__(x))(align)-1), align)
#define IS_ALIGNED(x, align) (((x) & ((__typeof__(x))(align)-1)) == 0)
#define DIV_ROUND_UP(n, d)   (((n) + (d)-1) / (d))

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define _packed_       __attribute__((packed))
#define _printf_(f, a) __attribute__((format(printf, f, a)))
#define _unused_       __attribute__((unused))
#define _noreturn_     __attribute__((noreturn))
#define _must_check_   __attribute__((warn_unused_result))
#define _fallthrough_  __attribute__((fallthrough))

static inline bool is_pow2(uint64_t x)
{
	return x != 0 && (x & (x - 1)) == 0;
}

/* The exponent of the largest power of two not above x; x must not be 0. */
static inline unsigned int ilog2(uint64_t x)
{
	return 63U - (unsigned int)__builtin_clzll(x);
}

#endif
