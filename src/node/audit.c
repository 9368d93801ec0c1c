/* The audit log; see audit.h. */
#define LOG_MODULE "audit"
#include "node/audit.h"

#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/linelog.h"
#include "base/log.h"
#include "node/http/router.h"

#define SIZE_MAX_BYTES (16 * MIB)
#define FILES	       8

struct audit {
	struct linelog log;
};

int audit_open(const char *path, struct audit **ret, struct err **e)
{
	struct audit *a = calloc(1, sizeof(*a));
	int r = a ? linelog_open(&a->log, path, LINELOG_RAW, SIZE_MAX_BYTES, FILES, e)
		  : err_sys(e, ENOMEM, "audit");

	if (r < 0)
		free(a);
	else
		*ret = a;
	return r;
}

void audit_close(struct audit *a)
{
	if (!a)
		return;
	linelog_close(&a->log);
	free(a);
}

static void add(struct buf *b, const char *key, const char *value)
{
	if (!value || !*value)
		return;
	buf_addf(b, ",\"%s\":", key);
	buf_add_json(b, value);
}

void audit_write(struct audit *a, const struct api_call *c, unsigned int status,
		 const char *error_id)
{
	static struct ratelimit rl = LOG_RATE(1, 1);
	_cleanup_(buf_done) struct buf b = { 0 };
	nsec_t now = now_real();
	char t[32];

	if (!a)
		return;
	buf_addf(&b, "{\"time\":\"%s\"", format_time(now, t, sizeof(t)));
	add(&b, "user", c->actor);
	add(&b, "from", httpd_remote(c->req));
	add(&b, "method", httpd_method(c->req));
	add(&b, "path", httpd_path(c->req));
	add(&b, "operation", c->route ? c->route->name : NULL);
	add(&b, "project", c->project);
	buf_addf(&b, ",\"status\":%u", status);
	add(&b, "error", error_id);
	buf_adds(&b, "}\n");
	if (buf_error(&b)) {
		log_err_rl(&rl, "an audit line is lost: out of memory");
		return;
	}
	linelog_add(&a->log, 0, b.s, b.len, now);
	if (a->log.fault)
		log_err_rl(&rl, "an audit line is lost", "errno", err_name(a->log.fault));
}
