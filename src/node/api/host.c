/* The host and the daemon themselves: state, version, metrics. */
#include "node/api/api.h"

#include <errno.h>
#include <stdlib.h>
#include "base/clock.h"
#include "base/metrics.h"
#include "node/doctor.h"
#include "node/host.h"

static void get_host(struct api_call *c)
{
	struct err *e = NULL;
	struct json *j = host_status(&e);
	char t[32];

	if (!j) {
		api_fail(c, -EIO, e);
		return;
	}
	json_set(j, "started", json_new_str(format_time(c->node->started, t, sizeof(t))));
	api_json(c, 200, j);
}

/* The report blocks: a worker makes it. */
struct doctor {
	struct work work;
	struct api_call *call; /* NULL: the client went away */
	struct json *report;
};

static void make_report(struct work *w)
{
	container_of(w, struct doctor, work)->report = doctor_report();
}

static void report_made(struct work *w)
{
	struct doctor *d = container_of(w, struct doctor, work);

	if (d->call)
		api_json(d->call, 200, d->report);
	else
		json_free(d->report);
	free(d);
}

static void doctor_gone(struct httpd_req *r, void *data)
{
	struct doctor *d = data;

	api_done(d->call);
	d->call = NULL;
}

static void get_doctor(struct api_call *c)
{
	struct doctor *d = calloc(1, sizeof(*d));
	int r = d ? 0 : -ENOMEM;

	if (r == 0) {
		d->call = c;
		r = work_submit(c->node->workers, &d->work, make_report, report_made);
	}
	if (r < 0) {
		free(d);
		api_fail(c, r, NULL);
		return;
	}
	httpd_set_data(c->req, d, doctor_gone);
}

static void get_metrics(struct api_call *c)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	metrics_print(c->node->metrics, &b);
	api_buf(c, 200, "application/openmetrics-text; version=1.0.0; charset=utf-8", &b);
}

const struct route api_host_routes[] = {
	{ "GET", "/v1/host", ROLE_VIEWER, false, get_host },
	{ "GET", "/v1/doctor", ROLE_VIEWER, false, get_doctor },
	{ "GET", "/metrics", ROLE_VIEWER, false, get_metrics },
	{ NULL },
};
