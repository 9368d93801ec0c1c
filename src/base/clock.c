/* Clocks; see clock.h. */
#include "base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
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

/* Eras are the 400 years from 1 March of year 0, 400, ...: a leap day is then the last of its year. */
int64_t utc_days(int64_t year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year, era = (y >= 0 ? y : y - 399) / 400;
	int64_t in_era = y - era * 400,
		of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + in_era * 365 + in_era / 4 - in_era / 100 + of_year - 719468;
}

void utc_date(int64_t seconds, struct tm *tm)
{
	int64_t days = seconds / 86400 - (seconds % 86400 < 0), left = seconds - days * 86400;
	int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097,
		of_era = z - era * 146097;
	int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * y + y / 4 - y / 100), m = (5 * of_year + 2) / 153;
	int64_t year;

	*tm = (struct tm){ .tm_sec = (int)(left % 60),
			   .tm_min = (int)(left / 60 % 60),
			   .tm_hour = (int)(left / 3600),
			   .tm_wday =
				   (int)(((days + 4) % 7 + 7) % 7), /* 1 January 1970: Thursday */
			   .tm_mday = (int)(of_year - (153 * m + 2) / 5 + 1),
			   .tm_mon = (int)(m < 10 ? m + 2 : m - 10) };
	year = y + era * 400 + (tm->tm_mon <= 1);
	tm->tm_yday = (int)(days - utc_days(year, 1, 1));
	tm->tm_year = (int)CLAMP(year - 1900, (int64_t)INT_MIN, (int64_t)INT_MAX);
}

char *format_time(nsec_t real, char *buf, size_t len)
{
	int64_t s = real / NSEC_PER_SEC;
	nsec_t rest = real % NSEC_PER_SEC;
	struct tm tm;

	if (rest < 0) {
		rest += NSEC_PER_SEC;
		s--;
	}
	utc_date(s, &tm);
	snprintf(buf, len, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1,
		 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(rest / NSEC_PER_MSEC));
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
	t = utc_days(back.tm_year + 1900, back.tm_mon + 1, back.tm_mday) * 86400 +
	    back.tm_hour * 3600 + back.tm_min * 60 + back.tm_sec;
	utc_date(t, &back);
	/* that mends 31 April into 1 May; that is not what was written */
	if (back.tm_mon != tm.tm_mon || back.tm_mday != tm.tm_mday)
		return -EINVAL;
	/* years that nanoseconds in 63 bits can hold */
	if (tm.tm_year < 1700 - 1900 || tm.tm_year > 2260 - 1900)
		return -EINVAL;
	*ret = (t - sign * (oh * 3600 + om * 60)) * NSEC_PER_SEC + frac;
	return 0;
}
