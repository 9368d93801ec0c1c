/* Freezing, changing limits, looking at processes and statistics; see lifecycle.h. */
#include "container/lifecycle.h"

/* A container with its cgroups open. */
struct handle {
	struct container c;
	struct cgroups cg;
};

static void handle_done(struct handle *h)
{
	cgroups_close(&h->cg);
	container_done(&h->c);
}

static int handle_open(struct handle *h, const char *root, const char *id, struct err **e)
{
	int r = container_load(&h->c, root, id, e);

	return r < 0 ? r : container_load_cgroups(&h->c, &h->cg, e);
}

#define HANDLE(h) _cleanup_(handle_done) struct handle h = { .c = { .dir = -1 } }

int container_freeze(const char *root, const char *id, bool on, struct err **e)
{
	HANDLE(h);
	enum ct_status status;
	int r = container_load(&h.c, root, id, e);

	if (r < 0)
		return r;
	status = container_status(&h.c);
	if (on ? status != CT_RUNNING && status != CT_CREATED : status != CT_PAUSED)
		return err_set(e, EINVAL, "container.state", "the container is %s, not %s",
			       ct_status_names[status], on ? "running" : "paused");
	r = container_load_cgroups(&h.c, &h.cg, e);
	return r < 0 ? r : cgroups_freeze(&h.cg, on, e);
}

static int update(struct handle *h, struct spec_resources *res, struct err **e)
{
	int r;

	if (container_status(&h->c) == CT_STOPPED)
		return err_set(e, EINVAL, "container.state", "container '%s' is not running",
			       h->c.id);
	r = container_load_cgroups(&h->c, &h->cg, e);
	res->present = true;
	return r < 0 ? r : cgroups_set(&h->cg, res, e);
}

int container_update(const char *root, const char *id, struct spec_resources *res, struct err **e)
{
	HANDLE(h);
	int r = container_load(&h.c, root, id, e);

	return r < 0 ? r : update(&h, res, e);
}

int container_update_json(const char *root, const char *id, const char *json, size_t len,
			  struct err **e)
{
	HANDLE(h);
	struct spec_resources res = { 0 };
	struct jr jr = { .a = &h.c.arena, .e = e };
	struct jval *o;
	int r = container_load(&h.c, root, id, e);

	if (r == 0)
		r = jdoc_parse(&h.c.arena, json, len, &o, e);
	if (r < 0)
		return r;
	spec_read_resources(&jr, o, &res);
	return jr.r < 0 ? jr.r : update(&h, &res, e);
}

int container_pids(const char *root, const char *id, pid_t **pids, size_t *n, struct err **e)
{
	HANDLE(h);
	int r = handle_open(&h, root, id, e);

	return r < 0 ? r : cgroups_pids(&h.cg, pids, n, e);
}

int container_stats_json(const char *root, const char *id, struct buf *out, struct err **e)
{
	HANDLE(h);
	int r = handle_open(&h, root, id, e);

	return r < 0 ? r : cgroups_stats_json(&h.cg, out, e);
}

void container_usage(const char *root, const char *id, uint64_t *cpu_usec, uint64_t *memory_peak)
{
	HANDLE(h);

	if (handle_open(&h, root, id, NULL) == 0)
		cgroups_usage(&h.cg, cpu_usec, memory_peak);
}
