/* Clocks; see clock.h. */
#include "base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static nsec_t read_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

static nsec_t mono_now(const struct clock *c)
{
	return read_clock(CLOCK_MONOTONIC);
}

const struct clock clock_mono = { .now = mono_now };

static nsec_t virtual_now(const struct clock *c)
{
	return c->at;
}

void clock_virtual_init(struct clock *c)
{
	*c = (struct clock){ .now = virtual_now, .virtual_time = true };
}

void clock_advance(struct clock *c, nsec_t by)
{
	c->at += by;
}

nsec_t now_real(void)
{
	return read_clock(CLOCK_REALTIME);
}

char *format_time(nsec_t real, char *buf, size_t len)
{
	time_t s = real / NSEC_PER_SEC;
	nsec_t rest = real % NSEC_PER_SEC;
	struct tm tm;
	char day[24];

	if (rest < 0) {
		rest += NSEC_PER_SEC;
		s--;
	}
	gmtime_r(&s, &tm);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf, len, "%s.%03dZ", day, (int)(rest / NSEC_PER_MSEC));
	return buf;
}

/* Exactly n digits at *s. */
static int digits(const char **s, int n, int *ret)
{
	int v = 0;

	for (; n > 0; n--, (*s)++) {
		if (!isdigit((unsigned char)**s))
			return -EINVAL;
		v = v * 10 + (**s - '0');
	}
	*ret = v;
	return 0;
}

static int expect(const char **s, char c)
{
	if (**s != c)
		return -EINVAL;
	(*s)++;
	return 0;
}

int parse_time(const char *s, nsec_t *ret)
{
	struct tm tm = { 0 }, back;
	nsec_t frac = 0, unit = NSEC_PER_SEC;
	int oh = 0, om = 0, sign = 1;
	time_t t;

	if (digits(&s, 4, &tm.tm_year) || expect(&s, '-') || digits(&s, 2, &tm.tm_mon) ||
	    expect(&s, '-') || digits(&s, 2, &tm.tm_mday))
		return -EINVAL;
	if (*s != 'T' && *s != 't' && *s != ' ')
		return -EINVAL;
	s++;
	if (digits(&s, 2, &tm.tm_hour) || expect(&s, ':') || digits(&s, 2, &tm.tm_min) ||
	    expect(&s, ':') || digits(&s, 2, &tm.tm_sec))
		return -EINVAL;
	if (*s == '.') {
		s++;
		if (!isdigit((unsigned char)*s))
			return -EINVAL;
		for (; isdigit((unsigned char)*s); s++) {
			unit /= 10;
			frac += unit * (*s - '0');
		}
	}
	if (*s == 'Z' || *s == 'z') {
		s++;
	} else {
		if (*s != '+' && *s != '-')
			return -EINVAL;
		sign = *s++ == '-' ? -1 : 1;
		if (digits(&s, 2, &oh) || expect(&s, ':') || digits(&s, 2, &om) || oh > 23 ||
		    om > 59)
			return -EINVAL;
	}
	if (*s || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
		return -EINVAL;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	back = tm;
	t = timegm(&back);
	/* timegm() mends 31 April into 1 May; that is not what was written */
	if (back.tm_mon != tm.tm_mon || back.tm_mday != tm.tm_mday)
		return -EINVAL;
	/* years that nanoseconds in 63 bits can hold */
	if (tm.tm_year < 1700 - 1900 || tm.tm_year > 2260 - 1900)
		return -EINVAL;
	*ret = (t - sign * (oh * 3600 + om * 60)) * NSEC_PER_SEC + frac;
	return 0;
}
