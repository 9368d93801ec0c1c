/* Error chains.  The whole chain is one string that grows to the left: cheap, and always printable. */
#include "base/err.h"

#include <stdarg.h>
#include <string.h>

struct err {
	int num;
	char id[ERR_ID_MAX];
	char *msg; /* NULL: out of memory while formatting; the errno's text stands in */
};

/* Returned when even the struct cannot be had; never freed. */
static struct err err_oom = { .num = ENOMEM, .id = "sys.ENOMEM" };

static char *vformat(const char *fmt, va_list ap)
{
	char *s = NULL;

	if (vasprintf(&s, fmt, ap) < 0)
		return NULL;
	return s;
}

static void set_id(struct err *e, const char *id)
{
	size_t n = strnlen(id, ERR_ID_MAX - 1);

	memcpy(e->id, id, n);
	e->id[n] = '\0';
}

/* A chain is set twice when a caller forgot to clear it: the first fault is the cause, keep it. */
static struct err *err_new(struct err **e, int num, const char *id)
{
	struct err *n;

	if (!e || *e)
		return NULL;
	n = calloc(1, sizeof(*n));
	if (!n) {
		*e = &err_oom;
		return NULL;
	}
	n->num = num;
	set_id(n, id);
	*e = n;
	return n;
}

int err_setv(struct err **e, int num, const char *id, const char *fmt, va_list ap)
{
	struct err *n = err_new(e, num, id);

	if (n)
		n->msg = vformat(fmt, ap);
	return -num;
}

int(err_set)(struct err **e, int num, const char *id, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	err_setv(e, num, id, fmt, ap);
	va_end(ap);
	return -num;
}

int(err_sys)(struct err **e, int num, const char *fmt, ...)
{
	_cleanup_(freep) char *what = NULL;
	char id[ERR_ID_MAX];
	struct err *n;
	va_list ap;

	snprintf(id, sizeof(id), "sys.%s", err_name(num));
	n = err_new(e, num, id);
	if (!n)
		return -num;
	va_start(ap, fmt);
	what = vformat(fmt, ap);
	va_end(ap);
	if (what && asprintf(&n->msg, "%s: %s", what, strerror(num)) < 0)
		n->msg = NULL;
	return -num;
}

int(err_wrap)(struct err **e, int r, const char *fmt, ...)
{
	_cleanup_(freep) char *ctx = NULL;
	char *joined = NULL;
	va_list ap;

	if (!e)
		return r;
	if (!*e) {
		char id[ERR_ID_MAX];

		snprintf(id, sizeof(id), "sys.%s", err_name(-r));
		err_set(e, -r, id, "%s", strerror(-r));
	}
	if (!*e || *e == &err_oom)
		return r;
	va_start(ap, fmt);
	ctx = vformat(fmt, ap);
	va_end(ap);
	if (ctx && asprintf(&joined, "%s: %s", ctx, err_msg(*e)) >= 0) {
		free((*e)->msg);
		(*e)->msg = joined;
	}
	return r;
}

int err_num(const struct err *e)
{
	return e ? e->num : 0;
}

const char *err_id(const struct err *e)
{
	return e ? e->id : "";
}

const char *err_msg(const struct err *e)
{
	if (!e)
		return "no error";
	return e->msg ? e->msg : strerror(e->num);
}

void err_free(struct err *e)
{
	if (!e || e == &err_oom)
		return;
	free(e->msg);
	free(e);
}

void err_clear(struct err **e)
{
	if (e) {
		err_free(*e);
		*e = NULL;
	}
}

void err_move(struct err **dst, struct err **src)
{
	if (dst && !*dst)
		*dst = TAKE(*src);
	else
		err_clear(src);
}

const char *err_name(int num)
{
	static _Thread_local char unknown[16];
#ifdef __GLIBC__
	const char *name = strerrorname_np(num);

	if (name)
		return name;
#else /* the static programs: the names that callers compare with */
	static const struct {
		int num;
		const char *name;
	} names[] = {
		{ EPERM, "EPERM" },	      { ENOENT, "ENOENT" }, { EIO, "EIO" },
		{ EACCES, "EACCES" },	      { EBUSY, "EBUSY" },   { EEXIST, "EEXIST" },
		{ EINVAL, "EINVAL" },	      { ENOMEM, "ENOMEM" }, { ENOSPC, "ENOSPC" },
		{ ETIMEDOUT, "ETIMEDOUT" },   { ESRCH, "ESRCH" },   { ENOSYS, "ENOSYS" },
		{ EOPNOTSUPP, "EOPNOTSUPP" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].num == num)
			return names[i].name;
#endif
	snprintf(unknown, sizeof(unknown), "E%d", num);
	return unknown;
}
