/* The systemd cgroup driver: a transient scope (or slice) by one D-Bus call.
 *
 * By hand and not by sd-bus: libsystemd would be the largest library of a program that starts in microseconds and is
 * linked statically, and all that is needed are two method calls with fixed signatures over a unix socket.  The limits are
 * then written to the folder that systemd made, and given to systemd as properties, so that a reload keeps them.
 *                              Spec: D-Bus specification (wire protocol 1), org.freedesktop.systemd1(5) */
#include "container/cgroup/cgroup.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "base/str.h"

#define DEST   "org.freedesktop.systemd1"
#define OBJECT "/org/freedesktop/systemd1"
#define IFACE  "org.freedesktop.systemd1.Manager"

struct bus {
	int fd;
	uint32_t serial;
};

static void align(struct buf *b, size_t to)
{
	while (b->len % to)
		buf_addc(b, 0);
}

static void put_u32(struct buf *b, uint32_t v)
{
	align(b, 4);
	buf_add(b, &v, 4);
}

static void put_str(struct buf *b, const char *s)
{
	put_u32(b, (uint32_t)strlen(s));
	buf_add(b, s, strlen(s) + 1);
}

static void put_sig(struct buf *b, const char *s)
{
	buf_addc(b, (char)strlen(s));
	buf_add(b, s, strlen(s) + 1);
}

/* One header field: a struct of a byte and a variant. */
static void put_field(struct buf *b, uint8_t code, const char *sig, const char *value)
{
	align(b, 8);
	buf_addc(b, (char)code);
	put_sig(b, sig);
	if (sig[0] == 'g')
		put_sig(b, value);
	else
		put_str(b, value);
}

/* An array is its length in bytes, the padding of its element, the elements. */
static size_t array_begin(struct buf *b, size_t elem_align)
{
	size_t at;

	put_u32(b, 0);
	at = b->len;
	align(b, elem_align);
	return at;
}

static void array_end(struct buf *b, size_t at, size_t elem_align)
{
	uint32_t n = (uint32_t)(b->len - ALIGN_UP(at, elem_align));

	if (!buf_error(b))
		memcpy(b->s + at - 4, &n, 4);
}

static int read_full(int fd, void *p, size_t n, int timeout_ms)
{
	char *o = p;

	while (n > 0) {
		struct pollfd pf = { .fd = fd, .events = POLLIN };
		ssize_t got;

		if (poll(&pf, 1, timeout_ms) <= 0)
			return -ETIMEDOUT;
		got = read(fd, o, n);
		if (got <= 0)
			return got == 0 ? -EPIPE : -errno;
		o += got;
		n -= (size_t)got;
	}
	return 0;
}

/* Returns the text of an error reply in e; 0 for a method return with our serial. */
static int call(struct bus *bus, const char *path, const char *dest, const char *iface,
		const char *method, const char *sig, const struct buf *body, struct err **e)
{
	_cleanup_(buf_done) struct buf m = { 0 };
	uint32_t body_len = body ? (uint32_t)body->len : 0, serial = ++bus->serial;
	size_t fields;
	int tries;

	buf_add(&m, "l\1\0\1", 4); /* little-endian, method call, no flags, protocol 1 */
	put_u32(&m, body_len);
	put_u32(&m, serial);
	fields = array_begin(&m, 8);
	put_field(&m, 1, "o", path);
	put_field(&m, 6, "s", dest);
	put_field(&m, 2, "s", iface);
	put_field(&m, 3, "s", method);
	if (body_len)
		put_field(&m, 8, "g", sig);
	array_end(&m, fields, 8);
	align(&m, 8);
	if (body)
		buf_add(&m, body->s, body->len);
	if (buf_error(&m))
		return err_sys(e, ENOMEM, "D-Bus message");
	if (send(bus->fd, m.s, m.len, MSG_NOSIGNAL) != (ssize_t)m.len)
		return err_sys(e, errno, "D-Bus: send");
	for (tries = 0; tries < 1000; tries++) {
		char head[16], text[65536];
		uint32_t len, n_fields, reply = 0, off;
		int r = read_full(bus->fd, head, 16, 30000);

		if (r < 0)
			return err_sys(e, -r, "D-Bus: read");
		memcpy(&len, head + 4, 4);
		memcpy(&n_fields, head + 12, 4);
		if (head[0] != 'l' || n_fields > 32768 ||
		    len > sizeof(text) - ALIGN_UP(n_fields, 8U) - 1)
			return err_set(e, EPROTO, "dbus.frame", "D-Bus: unexpected message");
		n_fields = ALIGN_UP(n_fields, 8U);
		r = read_full(bus->fd, text, n_fields + len, 30000);
		if (r < 0)
			return err_sys(e, -r, "D-Bus: read");
		/* Field 5 is the serial this answers: 05 01 'u' 00 then the number. */
		for (off = 0; off + 8 <= n_fields; off += 4) {
			if (memcmp(text + off, "\5\1u\0", 4) == 0) {
				memcpy(&reply, text + off + 4, 4);
				break;
			}
		}
		if (reply != serial)
			continue; /* a signal of somebody */
		if (head[1] == 2)
			return 0;
		if (len > 4) {
			uint32_t n;

			memcpy(&n, text + n_fields, 4);
			if (n <= len - 5)
				return err_set(e, EIO, "dbus.error", "systemd: %s: %.*s", method,
					       (int)n, text + n_fields + 4);
		}
		return err_set(e, EIO, "dbus.error", "systemd: %s failed", method);
	}
	return err_set(e, ETIMEDOUT, "dbus.timeout", "systemd: no answer to %s", method);
}

static int open_bus(struct bus *bus, struct err **e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const char *env = getenv("DBUS_SESSION_BUS_ADDRESS"), *run = getenv("XDG_RUNTIME_DIR");
	char text[256], uid[16], hex[40];
	ssize_t n;
	int r;

	bus->serial = 0;
	bus->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (geteuid() == 0)
		snprintf(a.sun_path, sizeof(a.sun_path), "%s",
			 getenv("DBUS_SYSTEM_BUS_ADDRESS") &&
					 str_starts(getenv("DBUS_SYSTEM_BUS_ADDRESS"), "unix:path=")
				 ? getenv("DBUS_SYSTEM_BUS_ADDRESS") + 10
				 : "/run/dbus/system_bus_socket");
	else if (env && str_starts(env, "unix:path="))
		snprintf(a.sun_path, sizeof(a.sun_path), "%.*s", (int)strcspn(env + 10, ",;"),
			 env + 10);
	else
		snprintf(a.sun_path, sizeof(a.sun_path), "%s/bus", run ? run : "/run");
	if (bus->fd < 0 || connect(bus->fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return err_sys(e, errno, "reach systemd at '%s'", a.sun_path);
	snprintf(uid, sizeof(uid), "%u", (unsigned int)geteuid());
	hex_encode(uid, strlen(uid), hex);
	r = snprintf(text, sizeof(text), "%cAUTH EXTERNAL %s\r\n", 0, hex);
	if (send(bus->fd, text, (size_t)r, MSG_NOSIGNAL) != r)
		return err_sys(e, errno, "D-Bus: authentication");
	n = read(bus->fd, text, sizeof(text) - 1);
	if (n < 3 || memcmp(text, "OK ", 3) != 0)
		return err_set(e, EACCES, "dbus.auth", "D-Bus: authentication refused");
	if (send(bus->fd, "BEGIN\r\n", 7, MSG_NOSIGNAL) != 7)
		return err_sys(e, errno, "D-Bus: authentication");
	return call(bus, "/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus",
		    "Hello", "", NULL, e);
}

static void prop(struct buf *b, const char *name, const char *sig)
{
	align(b, 8);
	put_str(b, name);
	put_sig(b, sig);
}

static void prop_str(struct buf *b, const char *name, const char *v)
{
	prop(b, name, "s");
	put_str(b, v);
}

static void prop_bool(struct buf *b, const char *name, bool v)
{
	prop(b, name, "b");
	put_u32(b, v);
}

static void prop_u64(struct buf *b, const char *name, uint64_t v)
{
	prop(b, name, "t");
	align(b, 8);
	buf_add(b, &v, 8);
}

static void limits(struct buf *b, const struct spec_resources *r, bool v2)
{
	if (r->mem_limit.set && r->mem_limit.v != 0)
		prop_u64(b, v2 ? "MemoryMax" : "MemoryLimit",
			 r->mem_limit.v < 0 ? UINT64_MAX : (uint64_t)r->mem_limit.v);
	if (r->cpu_shares.set && r->cpu_shares.v > 0)
		prop_u64(b, v2 ? "CPUWeight" : "CPUShares",
			 v2 ? cg_shares_to_weight((uint64_t)r->cpu_shares.v)
			    : (uint64_t)r->cpu_shares.v);
	if (r->cpu_quota.set && r->cpu_quota.v != 0) {
		uint64_t period = r->cpu_period.set && r->cpu_period.v > 0
					  ? (uint64_t)r->cpu_period.v
					  : 100000;

		/* In microseconds for each second, in steps of 10 ms as systemd has it. */
		prop_u64(b, "CPUQuotaPerSecUSec",
			 r->cpu_quota.v < 0
				 ? UINT64_MAX
				 : ALIGN_DOWN(((uint64_t)r->cpu_quota.v * 1000000 / period + 9999) /
						      10000,
					      (uint64_t)1) *
					   10000);
	}
	if (r->pids.set)
		prop_u64(b, "TasksMax", r->pids.v > 0 ? (uint64_t)r->pids.v : UINT64_MAX);
}

int cg_systemd_start(struct cgroups *c, pid_t pid, const struct spec_resources *res, struct err **e)
{
	struct bus bus;
	_cleanup_(buf_done) struct buf b = { 0 };
	bool slice = str_ends(c->scope, ".slice"), v2 = c->n == 1 && c->h[0].v2;
	struct timespec ms = { .tv_nsec = 1000000 };
	size_t at, inner;
	char text[300];
	int r = open_bus(&bus, e), tries;

	if (r == 0) {
		put_str(&b, c->scope);
		put_str(&b, "replace");
		at = array_begin(&b, 8);
		snprintf(text, sizeof(text), "container %s", c->scope);
		prop_str(&b, "Description", text);
		if (slice) {
			prop(&b, "Wants", "as");
			inner = array_begin(&b, 4);
			put_str(&b, c->slice);
			array_end(&b, inner, 4);
		} else {
			prop_str(&b, "Slice", c->slice);
			prop_bool(&b, "Delegate", true);
			prop(&b, "PIDs", "au");
			inner = array_begin(&b, 4);
			put_u32(&b, (uint32_t)pid);
			array_end(&b, inner, 4);
		}
		prop_bool(&b, "DefaultDependencies", false);
		prop_bool(&b, "MemoryAccounting", true);
		prop_bool(&b, "CPUAccounting", true);
		prop_bool(&b, v2 ? "IOAccounting" : "BlockIOAccounting", true);
		prop_bool(&b, "TasksAccounting", true);
		if (res->present)
			limits(&b, res, v2);
		array_end(&b, at, 8);
		/* auxiliary units: none */
		at = array_begin(&b, 8);
		array_end(&b, at, 8);
		r = call(&bus, OBJECT, DEST, IFACE, "StartTransientUnit", "ssa(sv)a(sa(sv))", &b,
			 e);
	}
	safe_close(bus.fd);
	/* The call answers when the job is queued; the folder is there when it has run. */
	for (tries = 0; r == 0 && tries < 10000; tries++) {
		char procs[32];

		cgroups_open(c, NULL);
		if (c->n > 0 && c->h[c->n - 1].fd >= 0 &&
		    (slice || cg_read(&c->h[c->n - 1], "cgroup.procs", procs, sizeof(procs)) > 0))
			break;
		nanosleep(&ms, NULL);
	}
	if (r == 0)
		/* Hierarchies that systemd does not manage are ours to make. */
		r = cgroups_create(c, NULL, e);
	if (r == 0 && slice)
		r = cgroups_add_pid(c, pid, e);
	return r < 0 ? err_wrap(e, r, "systemd cgroup '%s'", c->scope) : 0;
}

int cg_systemd_stop(struct cgroups *c, struct err **e)
{
	struct bus bus;
	_cleanup_(buf_done) struct buf b = { 0 };
	int r = open_bus(&bus, e);

	if (r == 0) {
		put_str(&b, c->scope);
		put_str(&b, "replace");
		r = call(&bus, OBJECT, DEST, IFACE, "StopUnit", "ss", &b, e);
	}
	safe_close(bus.fd);
	return r;
}
