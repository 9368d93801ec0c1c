/* What this host is; see host.h. */
#include "node/host.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/clock.h"
#include "base/str.h"

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
	return 0;
}

struct json *host_status(struct err **e)
{
	_cleanup_(json_freep) struct json *j = json_new_obj(), *cpu = json_new_obj(),
					  *mem = json_new_obj();
	struct host_memory m = { 0 };
	struct host_cpu c = { 0 };
	struct utsname u = { 0 };
	int r;

	if (host_cpu_read(&c, e) < 0 || host_memory_read(&m, e) < 0)
		return NULL;
	uname(&u);
	r = json_set(cpu, "model", json_new_str(c.model));
	r = json_set(cpu, "sockets", json_new_int(c.sockets)) ?: r;
	r = json_set(cpu, "cores", json_new_int(c.cores)) ?: r;
	r = json_set(cpu, "threads", json_new_int(c.threads)) ?: r;
	r = json_set(cpu, "vcpus", json_new_int(host_vcpus(&c))) ?: r;
	r = json_set(cpu, "mhz", json_new_int((int64_t)host_vcpus(&c) * c.mhz)) ?: r;
	r = json_set(mem, "total", json_new_int((int64_t)m.total)) ?: r;
	r = json_set(mem, "available", json_new_int((int64_t)m.available)) ?: r;
	r = json_set(j, "hostname", json_new_str(u.nodename)) ?: r;
	r = json_set(j, "kernel", json_new_str(u.release)) ?: r;
	r = json_set(j, "architecture", json_new_str(u.machine)) ?: r;
	r = json_set(j, "version", json_new_str(STRATA_VERSION)) ?: r;
	r = json_set(j, "cpu", TAKE(cpu)) ?: r;
	r = json_set(j, "memory", TAKE(mem)) ?: r;
	if (r < 0) {
		err_sys(e, ENOMEM, "host");
		return NULL;
	}
	return TAKE(j);
}
