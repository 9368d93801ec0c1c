/* Clocks as values: code that takes a `struct clock *` runs on the real time or on a test's. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/types.h"

struct tm;

struct clock {
	nsec_t (*now)(const struct clock *c); /* monotonic */
	bool virtual_time; /* true: only clock_advance() moves it; an idle loop jumps to its next timer */
	nsec_t at;	   /* virtual clocks: the current time */
};

extern const struct clock clock_mono; /* CLOCK_MONOTONIC */

/* A virtual clock that starts at 0; caller's memory, nothing to release. */
void clock_virtual_init(struct clock *c);
void clock_advance(struct clock *c, nsec_t by);

static inline nsec_t clock_now(const struct clock *c)
{
	return c->now(c);
}
static inline nsec_t now_mono(void)
{
	return clock_mono.now(&clock_mono);
}
/* Wall clock, nanoseconds since 1970 UTC; for people and ids, never for durations. */
nsec_t now_real(void);

/* The calendar in UTC, proleptic Gregorian: days from 1 January 1970 to a date (month 1 to 12), and a time's date
 * (tm_year is clamped to an int, tm_isdst 0).  The C library's gmtime, timegm and strftime open the time zone's file,
 * which a thread under a system call filter may not. */
int64_t utc_days(int64_t year, int month, int day);
void utc_date(int64_t seconds, struct tm *tm);

/* RFC 3339 in UTC with milliseconds, "2026-11-21T03:15:00.123Z"; buf gets at least 32 bytes; returns buf. */
char *format_time(nsec_t real, char *buf, size_t len);
/* Reads RFC 3339 (fraction and offset optional); -EINVAL otherwise. */
int parse_time(const char *s, nsec_t *ret);

#endif
