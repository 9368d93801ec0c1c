/* The daemon itself: who answers, what it can be asked, metrics. */
#include "node/api/api.h"

#include <stdlib.h>
#include <string.h>
#include "base/metrics.h"
#include "gen/host.h"
#include "gen/openapi.h"

void route_server_get(struct api_call *c)
{
	_cleanup_(api_server_info_done) struct api_server_info s = { 0 };
	int r = api_server_info_init(&s);

	s.version = strdup(STRATA_VERSION);
	s.host = strdup(c->node->host->name);
	s.user = strdup(c->actor);
	if (c->role != GEN_ROLE_NONE) {
		s.has_role = true;
		s.role = (enum api_role)(c->role - GEN_ROLE_VIEWER);
	}
	if (r < 0 || !s.version || !s.host || !s.user)
		api_fail(c, -ENOMEM, NULL);
	else
		api_object(c, 200, &api_server_info_type, &s);
}

void route_openapi_get(struct api_call *c)
{
	api_text(c, 200, gen_openapi);
}

void route_metrics_get(struct api_call *c)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	metrics_print(c->node->metrics, &b);
	api_buf(c, 200, "application/openmetrics-text; version=1.0.0; charset=utf-8", &b);
}
