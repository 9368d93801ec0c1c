/* Hosts. */
#include "node/api/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "gen/errors.h"
#include "gen/host.h"
#include "node/doctor.h"
#include "node/host.h"

/* The status is read anew each time: it is the host itself, not what was stored. */
static int print_host(struct node *n, struct object *o, struct buf *b)
{
	_cleanup_(api_host_done) struct api_host h = { 0 };
	int r = resource_load(o, &api_host_type, &h, NULL);

	api_host_status_done(&h.status);
	if (r == 0)
		r = host_fill(&h.status, NULL);
	h.status.has_started = true;
	h.status.started = n->started;
	return r < 0 ? r : api_host_print(&h, 0, b);
}

void route_host_list(struct api_call *c)
{
	api_list(c, "host", print_host);
}

void route_host_get(struct api_call *c)
{
	api_get(c, "host", print_host);
}

void route_host_patch(struct api_call *c)
{
	struct object *o = api_change(c, "host");

	if (o)
		api_show(c, 200, o, print_host);
}

/* ---- checks: the report blocks, a worker makes it ---- */

struct doctor {
	struct work work;
	struct api_call *call; /* NULL: the client went away */
	struct json *report;
};

static void make_report(struct work *w)
{
	container_of(w, struct doctor, work)->report = doctor_report();
}

static int print_check(const struct json *j, struct buf *b)
{
	_cleanup_(api_host_check_done) struct api_host_check c = { 0 };
	const char *fix = json_str(json_get(j, "fix"));
	int r = api_host_check_init(&c);

	c.id = strdup(json_str(json_get(j, "name")) ?: "");
	c.message = strdup(json_str(json_get(j, "detail")) ?: "");
	c.fix = fix ? strdup(fix) : NULL;
	c.needed = json_bool(json_get(j, "needed"), false);
	if (!streq(json_str(json_get(j, "state")) ?: "", "ok"))
		c.result = c.needed ? API_CHECK_RESULT_MISSING : API_CHECK_RESULT_WARNING;
	if (r < 0 || !c.id || !c.message || (fix && !c.fix))
		return -ENOMEM;
	return api_host_check_print(&c, 0, b);
}

static void answer_checks(struct api_call *c, const struct json *report)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	const struct json *list = json_get(report, "checks");
	int r = report ? 0 : -ENOMEM;

	buf_adds(&b, "{\"items\":[");
	for (size_t i = 0; r == 0 && i < json_len(list); i++) {
		if (i)
			buf_addc(&b, ',');
		r = print_check(json_at(list, i), &b);
	}
	buf_adds(&b, "]}");
	if (r < 0)
		api_fail(c, r, NULL);
	else
		api_buf(c, 200, "application/json", &b);
}

static void report_made(struct work *w)
{
	struct doctor *d = container_of(w, struct doctor, work);

	if (d->call)
		answer_checks(d->call, d->report);
	json_free(d->report);
	free(d);
}

static void client_gone(struct httpd_req *r, void *data)
{
	struct doctor *d = data;

	api_done(d->call);
	d->call = NULL;
}

void route_host_checks(struct api_call *c)
{
	struct doctor *d;
	int r;

	if (!api_target(c, "host"))
		return;
	d = calloc(1, sizeof(*d));
	r = d ? 0 : -ENOMEM;
	if (r == 0) {
		d->call = c;
		r = work_submit(c->node->workers, &d->work, make_report, report_made);
	}
	if (r < 0) {
		free(d);
		api_fail(c, r, NULL);
		return;
	}
	httpd_set_data(c->req, d, client_gone);
}
