/* See limits.h.  `mean` is a bucket that fills with the rate and holds a burst, `peak` one that fills with the burst's
 * own rate: a burst of `length` at `max` empties the first in just that time. */
#include <string.h>
#include "base/str.h"
#include "storage/filters/limits.h"

#define CATCH_UP 10 /* a bucket without a burst holds 1/10 s */

static const char *const kinds[LIMIT_KINDS] = { "iops-total", "iops-read", "iops-write",
						"bps-total",  "bps-read",  "bps-write" };

const char *const limit_names[] = {
	"iops-total",
	"iops-read",
	"iops-write",
	"bps-total",
	"bps-read",
	"bps-write",
	"iops-total-max",
	"iops-read-max",
	"iops-write-max",
	"bps-total-max",
	"bps-read-max",
	"bps-write-max",
	"iops-total-length",
	"iops-read-length",
	"iops-write-length",
	"bps-total-length",
	"bps-read-length",
	"bps-write-length",
	NULL,
};

static void apply(struct limit *m, nsec_t now)
{
	uint64_t burst = MAX(m->rate / CATCH_UP, (uint64_t)1);
	nsec_t length = m->length ?: NSEC_PER_SEC;

	if (m->rate && m->max > m->rate) {
		unsigned __int128 n = (unsigned __int128)(m->max - m->rate) * (uint64_t)length /
				      (uint64_t)NSEC_PER_SEC;

		burst = MAX(burst, n > INT64_MAX ? (uint64_t)INT64_MAX : (uint64_t)n);
	}
	ratelimit_set(&m->mean, m->rate, burst, now);
	ratelimit_set(&m->peak, m->rate ? m->max : 0, MAX(m->max / CATCH_UP, (uint64_t)1), now);
}

int limits_set(struct limits *l, const char *name, const char *value, nsec_t now, struct err **e)
{
	for (int k = 0; k < LIMIT_KINDS; k++) {
		struct limit *m = &l->v[k];
		size_t n = strlen(kinds[k]);
		uint64_t v = 0;
		nsec_t t = 0;
		int r;

		if (strncmp(name, kinds[k], n) != 0)
			continue;
		name += n;
		if (streq(name, "-length"))
			r = parse_duration(value, &t);
		else if (*name == '\0' || streq(name, "-max"))
			r = k >= LIMIT_BPS_TOTAL ? parse_size(value, &v)
						 : parse_u64(value, INT64_MAX, &v);
		else
			return -ENOENT;
		if (r < 0 || t < 0 || v > INT64_MAX || t > 86400 * NSEC_PER_SEC)
			return err_set(e, EINVAL, "disk.limit-value", "%s%s: '%s' is no %s",
				       kinds[k], name, value,
				       streq(name, "-length") ? "duration" : "rate");
		if (streq(name, "-length"))
			m->length = t;
		else if (*name)
			m->max = v;
		else
			m->rate = v;
		apply(m, now);
		l->any = false;
		for (int i = 0; i < LIMIT_KINDS; i++)
			l->any |= l->v[i].rate != 0;
		return 0;
	}
	return -ENOENT;
}

int limits_check(const struct limits *l, struct err **e)
{
	for (int k = 0; k < LIMIT_KINDS; k++) {
		const struct limit *m = &l->v[k];

		if (m->max && m->max < m->rate)
			return err_set(e, EINVAL, "disk.limit-value", "%s-max is below %s",
				       kinds[k], kinds[k]);
		if ((m->max && !m->rate) || (m->length && !m->max))
			return err_set(e, EINVAL, "disk.limit-value", "%s-%s without %s%s",
				       kinds[k], m->rate ? "length" : "max", kinds[k],
				       m->rate ? "-max" : "");
	}
	return 0;
}

/* The four of six that a request meets: total and its direction's. */
#define EACH_LIMIT(k, write)                                           \
	for (int i_ = 0, k = LIMIT_IOPS_TOTAL; i_ < 4;                 \
	     i_++, k = (i_ & 2 ? LIMIT_BPS_TOTAL : LIMIT_IOPS_TOTAL) + \
		       (i_ & 1 ? ((write) ? 2 : 1) : 0))

nsec_t limits_wait(const struct limits *l, bool write, uint64_t bytes, nsec_t now)
{
	nsec_t wait = 0;

	EACH_LIMIT(k, write)
	{
		uint64_t n = k >= LIMIT_BPS_TOTAL ? bytes : 1;

		wait = MAX(wait, ratelimit_wait(&l->v[k].mean, n, now));
		wait = MAX(wait, ratelimit_wait(&l->v[k].peak, n, now));
	}
	return wait;
}

void limits_take(struct limits *l, bool write, uint64_t bytes, nsec_t now)
{
	EACH_LIMIT(k, write)
	{
		uint64_t n = k >= LIMIT_BPS_TOTAL ? bytes : 1;

		ratelimit_force(&l->v[k].mean, n, now);
		ratelimit_force(&l->v[k].peak, n, now);
	}
}
