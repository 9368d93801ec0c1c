/* Statistics of a container's cgroups as the JSON that `events` prints; one pass over some twenty small files.
 * The shape is runc's (types/events.go names), which podman, Docker and containerd's shims read. */
#include "container/cgroup/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "base/str.h"

static uint64_t num(const struct cg_hierarchy *h, const char *file)
{
	char text[64];

	if (!h || cg_read(h, file, text, sizeof(text)) <= 0)
		return 0;
	return streq(text, "max") ? UINT64_MAX : strtoull(text, NULL, 10);
}

/* "name value" lines. */
static uint64_t field(const char *text, const char *name)
{
	size_t len = strlen(name);

	while (text && *text) {
		if (strncmp(text, name, len) == 0 && text[len] == ' ')
			return strtoull(text + len + 1, NULL, 10);
		text = strchr(text, '\n');
		if (text)
			text++;
	}
	return 0;
}

#define U(v) ((unsigned long long)(v))

static void cpu_v1(struct cgroups *c, struct buf *o)
{
	const struct cg_hierarchy *acct = cg_find(c, CG_CPUACCT), *cpu = cg_find(c, CG_CPU);
	char text[4096], *p;
	uint64_t user = 0, kernel = 0;
	static long hz;

	if (!hz)
		hz = sysconf(_SC_CLK_TCK);
	if (acct && cg_read(acct, "cpuacct.stat", text, sizeof(text)) > 0) {
		user = field(text, "user") * (1000000000ULL / (uint64_t)hz);
		kernel = field(text, "system") * (1000000000ULL / (uint64_t)hz);
	}
	buf_addf(o, "\"cpu\":{\"usage\":{\"total\":%llu,\"percpu\":[",
		 U(num(acct, "cpuacct.usage")));
	if (acct && cg_read(acct, "cpuacct.usage_percpu", text, sizeof(text)) > 0)
		for (p = text; *p; p++)
			buf_addc(o, *p == ' ' && p[1] ? ',' : *p == ' ' ? ' ' : *p);
	buf_addf(o, "],\"kernel\":%llu,\"user\":%llu},\"throttling\":{", U(kernel), U(user));
	if (cpu && cg_read(cpu, "cpu.stat", text, sizeof(text)) > 0)
		buf_addf(o, "\"periods\":%llu,\"throttledPeriods\":%llu,\"throttledTime\":%llu",
			 U(field(text, "nr_periods")), U(field(text, "nr_throttled")),
			 U(field(text, "throttled_time")));
	buf_adds(o, "}}");
}

static void cpu_v2(const struct cg_hierarchy *h, struct buf *o)
{
	char text[4096] = "";

	cg_read(h, "cpu.stat", text, sizeof(text));
	buf_addf(
		o,
		"\"cpu\":{\"usage\":{\"total\":%llu,\"percpu\":[],\"kernel\":%llu,\"user\":%llu},"
		"\"throttling\":{\"periods\":%llu,\"throttledPeriods\":%llu,\"throttledTime\":%llu}}",
		U(field(text, "usage_usec") * 1000), U(field(text, "system_usec") * 1000),
		U(field(text, "user_usec") * 1000), U(field(text, "nr_periods")),
		U(field(text, "nr_throttled")), U(field(text, "throttled_usec") * 1000));
}

static void entry(struct buf *o, const char *name, uint64_t limit, uint64_t usage, uint64_t max,
		  uint64_t fail)
{
	buf_addf(o, "\"%s\":{\"limit\":%llu,\"usage\":%llu,\"max\":%llu,\"failcnt\":%llu}", name,
		 U(limit), U(usage), U(max), U(fail));
}

static void raw_stat(struct buf *o, const char *text)
{
	bool first = true;

	buf_adds(o, "\"raw\":{");
	while (*text) {
		size_t n = strcspn(text, " \n");

		if (text[n] == ' ') {
			buf_addf(o, "%s\"%.*s\":%llu", first ? "" : ",", (int)n, text,
				 strtoull(text + n, NULL, 10));
			first = false;
		}
		text += strcspn(text, "\n");
		if (*text)
			text++;
	}
	buf_addc(o, '}');
}

static void memory_v1(const struct cg_hierarchy *h, struct buf *o)
{
	static const struct {
		const char *name, *prefix;
	} kinds[] = { { "usage", "memory." },
		      { "swap", "memory.memsw." },
		      { "kernel", "memory.kmem." },
		      { "kernelTCP", "memory.kmem.tcp." } };
	char text[8192] = "", file[64];
	size_t i;

	cg_read(h, "memory.stat", text, sizeof(text));
	buf_addf(o, "\"memory\":{\"cache\":%llu", U(field(text, "cache")));
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		uint64_t v[4];
		static const char *const names[4] = { "limit_in_bytes", "usage_in_bytes",
						      "max_usage_in_bytes", "failcnt" };
		size_t k;

		for (k = 0; k < 4; k++) {
			snprintf(file, sizeof(file), "%s%s", kinds[i].prefix, names[k]);
			v[k] = num(h, file);
		}
		buf_addc(o, ',');
		entry(o, kinds[i].name, v[0], v[1], v[2], v[3]);
	}
	buf_addc(o, ',');
	raw_stat(o, text);
	buf_addc(o, '}');
}

static void memory_v2(const struct cg_hierarchy *h, struct buf *o)
{
	char text[8192] = "", events[512] = "";
	uint64_t use = num(h, "memory.current"), max = num(h, "memory.max"),
		 swap_max = num(h, "memory.swap.max");

	cg_read(h, "memory.stat", text, sizeof(text));
	cg_read(h, "memory.events", events, sizeof(events));
	buf_addf(o, "\"memory\":{\"cache\":%llu,", U(field(text, "file")));
	entry(o, "usage", max, use, num(h, "memory.peak"), field(events, "max"));
	buf_addc(o, ',');
	/* Readers expect memory and swap together here, as v1 counted. */
	entry(o, "swap", max == UINT64_MAX || swap_max == UINT64_MAX ? UINT64_MAX : max + swap_max,
	      use + num(h, "memory.swap.current"), 0, 0);
	buf_adds(o, ",\"kernel\":{},\"kernelTCP\":{},");
	raw_stat(o, text);
	buf_addc(o, '}');
}

/* "8:0 Read 4096" lines of v1. */
static void blkio_list(const struct cg_hierarchy *h, const char *file, const char *name,
		       struct buf *o)
{
	char text[16384], *line, *save = NULL;
	bool first = true;

	buf_addf(o, "\"%s\":[", name);
	if (h && cg_read(h, file, text, sizeof(text)) > 0) {
		for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
			unsigned int major, minor;
			unsigned long long v;
			char op[32];

			if (sscanf(line, "%u:%u %31s %llu", &major, &minor, op, &v) != 4)
				continue;
			buf_addf(o, "%s{\"major\":%u,\"minor\":%u,\"op\":\"%s\",\"value\":%llu}",
				 first ? "" : ",", major, minor, op, v);
			first = false;
		}
	}
	buf_addc(o, ']');
}

static void blkio_v2(const struct cg_hierarchy *h, struct buf *o)
{
	static const struct {
		const char *key, *op;
		bool bytes;
	} keys[] = { { "rbytes=", "Read", true },
		     { "wbytes=", "Write", true },
		     { "rios=", "Read", false },
		     { "wios=", "Write", false } };
	char text[16384] = "";
	int pass;
	size_t i;

	cg_read(h, "io.stat", text, sizeof(text));
	buf_adds(o, "\"blkio\":{");
	for (pass = 1; pass >= 0; pass--) {
		const char *line = text;
		bool first = true;

		buf_addf(o, "\"%s\":[", pass ? "ioServiceBytesRecursive" : "ioServicedRecursive");
		while (*line) {
			size_t len = strcspn(line, "\n");
			unsigned int major, minor;

			for (i = 0;
			     sscanf(line, "%u:%u", &major, &minor) == 2 && i < ARRAY_SIZE(keys);
			     i++) {
				const char *at =
					memmem(line, len, keys[i].key, strlen(keys[i].key));

				if (!at || keys[i].bytes != (pass == 1))
					continue;
				buf_addf(
					o,
					"%s{\"major\":%u,\"minor\":%u,\"op\":\"%s\",\"value\":%llu}",
					first ? "" : ",", major, minor, keys[i].op,
					strtoull(at + strlen(keys[i].key), NULL, 10));
				first = false;
			}
			line += len;
			if (*line)
				line++;
		}
		buf_adds(o, pass ? "]," : "]");
	}
	buf_addc(o, '}');
}

static void hugetlb(const struct cg_hierarchy *h, struct buf *o)
{
	const char *suffix = h->v2 ? ".max" : ".limit_in_bytes";
	int fd = openat(h->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *d;
	bool first = true;

	buf_adds(o, "\"hugetlb\":{");
	while (dir && (d = readdir(dir))) {
		char size[32], file[96], events[128];

		if (!str_starts(d->d_name, "hugetlb.") || !str_ends(d->d_name, suffix) ||
		    strstr(d->d_name, ".rsvd."))
			continue;
		snprintf(size, sizeof(size), "%.*s", (int)strcspn(d->d_name + 8, "."),
			 d->d_name + 8);
		snprintf(file, sizeof(file), "hugetlb.%s%s", size,
			 h->v2 ? ".current" : ".usage_in_bytes");
		buf_addf(o, "%s\"%s\":{\"usage\":%llu", first ? "" : ",", size, U(num(h, file)));
		if (h->v2) {
			snprintf(file, sizeof(file), "hugetlb.%s.events", size);
			events[0] = '\0';
			cg_read(h, file, events, sizeof(events));
			buf_addf(o, ",\"failcnt\":%llu}", U(field(events, "max")));
		} else {
			snprintf(file, sizeof(file), "hugetlb.%s.max_usage_in_bytes", size);
			buf_addf(o, ",\"max\":%llu", U(num(h, file)));
			snprintf(file, sizeof(file), "hugetlb.%s.failcnt", size);
			buf_addf(o, ",\"failcnt\":%llu}", U(num(h, file)));
		}
		first = false;
	}
	if (dir)
		closedir(dir);
	buf_addc(o, '}');
}

int cgroups_stats_json(struct cgroups *c, struct buf *o, struct err **e)
{
	const struct cg_hierarchy *h;
	size_t i;
	bool v2 = c->n == 1 && c->h[0].v2;

	if (c->disabled)
		return err_set(e, EOPNOTSUPP, "cgroup.none", "this container has no cgroup");
	buf_addc(o, '{');
	for (i = 0; i < c->n && v2; i++)
		cpu_v2(&c->h[i], o);
	if (!v2)
		cpu_v1(c, o);
	h = cg_find(c, CG_CPUSET);
	if (h && !h->v2)
		buf_addf(o, ",\"cpuset\":{\"cpu_exclusive\":%llu}",
			 U(num(h, "cpuset.cpu_exclusive")));
	h = cg_find(c, CG_MEMORY);
	if (h) {
		buf_addc(o, ',');
		h->v2 ? memory_v2(h, o) : memory_v1(h, o);
	}
	h = cg_find(c, CG_PIDS);
	if (h) {
		uint64_t max = num(h, "pids.max");

		buf_addf(o, ",\"pids\":{\"current\":%llu,\"limit\":%llu}",
			 U(num(h, "pids.current")), U(max == UINT64_MAX ? 0 : max));
	}
	h = cg_find(c, CG_BLKIO);
	if (h && h->v2) {
		buf_addc(o, ',');
		blkio_v2(h, o);
	} else if (h) {
		buf_adds(o, ",\"blkio\":{");
		blkio_list(h, "blkio.throttle.io_service_bytes_recursive",
			   "ioServiceBytesRecursive", o);
		buf_addc(o, ',');
		blkio_list(h, "blkio.throttle.io_serviced_recursive", "ioServicedRecursive", o);
		buf_addc(o, '}');
	}
	h = cg_find(c, CG_HUGETLB);
	if (h) {
		buf_addc(o, ',');
		hugetlb(h, o);
	}
	buf_adds(o, ",\"intel_rdt\":{},\"network_interfaces\":null}");
	return buf_error(o);
}

void cgroups_usage(struct cgroups *c, uint64_t *cpu_usec, uint64_t *memory_peak)
{
	const struct cg_hierarchy *acct = cg_find(c, CG_CPUACCT), *mem = cg_find(c, CG_MEMORY);
	char text[4096];
	size_t i;

	if (acct && !acct->v2)
		*cpu_usec = num(acct, "cpuacct.usage") / 1000;
	for (i = 0; i < c->n && !(acct && !acct->v2); i++)
		if (c->h[i].v2 && cg_read(&c->h[i], "cpu.stat", text, sizeof(text)) > 0)
			*cpu_usec = field(text, "usage_usec");
	if (mem)
		*memory_peak = num(mem, mem->v2 ? "memory.peak" : "memory.max_usage_in_bytes");
}
