/* Fault points; see fault.h. */
#include "base/fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "base/str.h"

bool fault_armed;

static struct fault {
	char name[48];
	uint64_t nth, seen;
	enum { FAULT_KILL, FAULT_DELAY, FAULT_ERRNO } action;
	uint64_t value; /* milliseconds or errno */
} faults[16];
static size_t n_faults;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int parse_errno(const char *s)
{
	for (int i = 1; i < 134; i++) {
		const char *name = err_name(i);

		if (streq(name, s))
			return i;
	}
	return -EINVAL;
}

static int parse_one(const char *s, struct fault *f)
{
	_cleanup_(strv_freep) char **v = strv_split(s, ":");
	int r;

	if (strv_len(v) != 3 || strlen(v[0]) >= sizeof(f->name) ||
	    parse_u64(v[1], UINT32_MAX, &f->nth) < 0)
		return -EINVAL;
	strcpy(f->name, v[0]);
	if (streq(v[2], "kill")) {
		f->action = FAULT_KILL;
		return 0;
	}
	if (str_starts(v[2], "delay=")) {
		f->action = FAULT_DELAY;
		return parse_u64(v[2] + 6, 3600000, &f->value);
	}
	r = parse_errno(v[2]);
	f->action = FAULT_ERRNO;
	f->value = r > 0 ? (uint64_t)r : 0;
	return r < 0 ? r : 0;
}

void fault_init(void)
{
	const char *spec = getenv("STRATA_FAULT");
	_cleanup_(strv_freep) char **v = spec ? strv_split(spec, ";") : NULL;

	for (char **p = v; p && *p; p++) {
		if (n_faults == ARRAY_SIZE(faults) || parse_one(*p, &faults[n_faults]) < 0) {
			fprintf(stderr, "STRATA_FAULT: '%s': want name:nth:kill|delay=MS|ERRNO\n",
				*p);
			exit(2);
		}
		n_faults++;
	}
	fault_armed = n_faults > 0;
}

int fault_hit(const char *name)
{
	int r = 0;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < n_faults; i++) {
		struct fault *f = &faults[i];

		if (!streq(f->name, "*") && !streq(f->name, name))
			continue;
		f->seen++;
		if (f->nth && f->seen != f->nth)
			continue;
		if (f->action == FAULT_KILL)
			kill(getpid(), SIGKILL);
		else if (f->action == FAULT_DELAY)
			usleep((useconds_t)(f->value * 1000));
		else
			r = -(int)f->value;
	}
	pthread_mutex_unlock(&lock);
	return r;
}
