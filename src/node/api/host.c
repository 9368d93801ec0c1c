/* The host and the daemon themselves: state, version, metrics. */
#include "node/api/api.h"

#include "base/clock.h"
#include "base/metrics.h"
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

static void get_metrics(struct api_call *c)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	metrics_print(c->node->metrics, &b);
	api_buf(c, 200, "application/openmetrics-text; version=1.0.0; charset=utf-8", &b);
}

const struct route api_host_routes[] = {
	{ "GET", "/v1/host", ROLE_VIEWER, false, get_host },
	{ "GET", "/metrics", ROLE_VIEWER, false, get_metrics },
	{ NULL },
};
