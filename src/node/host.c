/* What this host is; see host.h. */
#include "node/host.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/clock.h"
#include "base/str.h"
#include "gen/formats.h"
#include "node/resource.h"

/* "key<tabs>: value" -> value, or NULL when the line has another key. */
static const char *value_of(const char *line, const char *key)
{
	size_t n = strlen(key);

	if (strncmp(line, key, n) != 0 || !strchr("\t :", line[n]))
		return NULL;
	line += n + strspn(line + n, "\t ");
	return *line == ':' ? line + 1 + strspn(line + 1, " ") : NULL;
}

/* How many different small numbers were seen. */
struct set {
	unsigned char seen[512];
	unsigned int n;
};

static void set_add(struct set *s, const char *text)
{
	unsigned long v = strtoul(text, NULL, 10);

	if (v < sizeof(s->seen) && !s->seen[v]) {
		s->seen[v] = 1;
		s->n++;
	}
}

void host_cpu_parse(const char *cpuinfo, struct host_cpu *ret)
{
	struct set sockets = { 0 };
	unsigned int siblings = 0, cores = 0;

	*ret = (struct host_cpu){ 0 };
	for (const char *line = cpuinfo; line && *line;) {
		const char *end = strchrnul(line, '\n'), *v;

		if (value_of(line, "processor"))
			ret->cpus++;
		else if ((v = value_of(line, "physical id")))
			set_add(&sockets, v);
		else if ((v = value_of(line, "siblings")))
			siblings = (unsigned int)strtoul(v, NULL, 10);
		else if ((v = value_of(line, "cpu cores")))
			cores = (unsigned int)strtoul(v, NULL, 10);
		else if ((v = value_of(line, "cpu MHz")) && !ret->mhz)
			ret->mhz = (unsigned int)(strtod(v, NULL) + 0.5);
		else if ((v = value_of(line, "model name")) && !ret->model[0])
			snprintf(ret->model, sizeof(ret->model), "%.*s", (int)(end - v), v);
		line = *end ? end + 1 : end;
	}
	ret->cpus = MAX(ret->cpus, 1U);
	ret->sockets = MAX(sockets.n, 1U);
	ret->cores = cores ? cores : DIV_ROUND_UP(ret->cpus, ret->sockets);
	ret->threads = siblings && cores ? MAX(siblings / cores, 1U) : 1;
	/* a virtual machine may show sockets and cores that do not multiply to its processors: trust the processors */
	if (host_vcpus(ret) != ret->cpus) {
		ret->threads = 1;
		ret->cores = DIV_ROUND_UP(ret->cpus, ret->sockets);
	}
}

int host_cpu_read(struct host_cpu *ret, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	int r = file_read(AT_FDCWD, "/proc/cpuinfo", 8 * MIB, &b, e);

	if (r == 0)
		host_cpu_parse(buf_str(&b), ret);
	return r;
}

static uint64_t kib_of(const char *meminfo, const char *key)
{
	for (const char *line = meminfo; line && *line;) {
		const char *v = value_of(line, key);

		if (v)
			return strtoull(v, NULL, 10) * KIB;
		line = strchrnul(line, '\n');
		line += *line != '\0';
	}
	return 0;
}

int host_memory_read(struct host_memory *ret, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	int r = file_read(AT_FDCWD, "/proc/meminfo", MIB, &b, e);

	if (r < 0)
		return r;
	ret->total = kib_of(buf_str(&b), "MemTotal");
	ret->available = kib_of(buf_str(&b), "MemAvailable");
	ret->swap = kib_of(buf_str(&b), "SwapTotal");
	ret->swap_free = kib_of(buf_str(&b), "SwapFree");
	return 0;
}

/* PRETTY_NAME="Debian GNU/Linux 12 (bookworm)" of os-release, or NULL. */
static char *os_name(void)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	if (file_read(AT_FDCWD, "/etc/os-release", 64 * KIB, &b, NULL) < 0)
		return NULL;
	for (const char *line = buf_str(&b); *line; line += *line != '\0') {
		const char *end = strchrnul(line, '\n');

		if (str_starts(line, "PRETTY_NAME=\"") && end[-1] == '"')
			return strndup(line + 13, MIN((size_t)(end - 1 - line - 13), (size_t)128));
		line = end;
	}
	return NULL;
}

static void fill_times(struct api_host_status *st)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct timespec up;

	if (clock_gettime(CLOCK_BOOTTIME, &up) == 0) {
		st->has_booted = true;
		st->booted = now_real() - up.tv_sec * NSEC_PER_SEC;
	}
	if (file_read(AT_FDCWD, "/proc/loadavg", 256, &b, NULL) == 0) {
		st->has_load = true;
		st->load = strtod(buf_str(&b), NULL);
	}
}

int host_fill(struct api_host_status *st, struct err **e)
{
	struct host_memory m = { 0 };
	struct host_cpu c = { 0 };
	struct utsname u = { 0 };
	int r = api_host_status_init(st);

	if (r == 0)
		r = host_cpu_read(&c, e);
	if (r == 0)
		r = host_memory_read(&m, e);
	if (r < 0)
		return r;
	uname(&u);
	st->version = strdup(STRATA_VERSION);
	st->kernel = strdup(u.release);
	st->architecture = strdup(u.machine);
	st->os = os_name();
	st->cpu.model = strdup(c.model);
	if (!st->version || !st->kernel || !st->architecture || !st->cpu.model)
		return err_sys(e, ENOMEM, "host");
	st->cpu.sockets = c.sockets;
	st->cpu.cores = c.cores;
	st->cpu.threads = c.threads;
	st->cpu.cpus = host_vcpus(&c);
	st->cpu.mhz = c.mhz;
	st->cpu.capacity_mhz = (double)host_vcpus(&c) * c.mhz;
	st->memory.size = m.total;
	st->memory.used = m.total - MIN(m.available, m.total);
	st->memory.swap = m.swap;
	st->memory.swap_used = m.swap - MIN(m.swap_free, m.swap);
	fill_times(st);
	return 0;
}

/* What names of objects do not permit becomes '-'. */
static void host_name(char name[64])
{
	struct utsname u = { 0 };

	uname(&u);
	snprintf(name, 64, "%.63s", u.nodename);
	name[strcspn(name, ".")] = '\0';
	for (char *p = name; *p; p++) {
		char one[3] = { 'a', *p, '\0' };

		if (!gen_format_fits(&gen_format_name, one))
			*p = '-';
	}
	if (!gen_format_fits(&gen_format_name, name))
		snprintf(name, 64, "host");
}

int host_register(struct inventory *inv, const char *name, struct object **ret, struct err **e)
{
	_cleanup_(api_host_done) struct api_host h = { 0 };
	struct object *o = inventory_next(inv, "host", NULL);
	char own[64];
	int r = 0;

	host_name(own);
	if (o && name && !streq(o->name, name)) {
		struct object_change c = { .name = name };

		r = inventory_change(inv, o, &c, e);
	} else if (!o) {
		r = api_host_init(&h);
		h.name = strdup(name ? name : own);
		if (r < 0 || !h.name)
			return err_sys(e, ENOMEM, "host");
		r = resource_create(inv, "host", &api_host_type, &h, "", NULL, &o, e);
	}
	if (r == 0)
		*ret = o;
	return r;
}
