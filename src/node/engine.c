/* What all engines share: making and freeing instances and plans, the choice for a VM; see engine.h. */
#include "node/engine.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/str.h"
#include "node/host.h"

const struct engine_ops *engine_by_name(const char *name)
{
	for (const struct engine_ops *const *o = engine_table; *o; o++) {
		if (streq((*o)->name, name))
			return *o;
	}
	return NULL;
}

static void instance_free(struct engine_instance *i)
{
	free(i->id);
	free(i->name);
	free(i->dir);
	free(i);
}

int engine_attach(const struct engine_ops *ops, const struct engine_attach *a,
		  struct engine_instance **ret, struct err **e)
{
	struct engine_instance *i = calloc(1, ops->instance_size);
	int r;

	if (!i)
		return err_sys(e, ENOMEM, "instance");
	i->ops = ops;
	i->env = a->env;
	i->events = a->events;
	i->owner = a->owner;
	i->id = strdup(a->id);
	i->name = strdup(a->name);
	i->dir = strdup(a->dir);
	if (!i->id || !i->name || !i->dir)
		r = err_sys(e, ENOMEM, "instance");
	else
		r = ops->attach ? ops->attach(i, e) : 0;
	if (r < 0) {
		if (ops->detach && i->id && i->name && i->dir)
			ops->detach(i);
		instance_free(i);
		return r;
	}
	*ret = i;
	return 0;
}

void engine_detach(struct engine_instance *i)
{
	if (!i)
		return;
	if (i->ops->detach)
		i->ops->detach(i);
	instance_free(i);
}

double engine_cpu_limit(const struct api_instance_cpu *c)
{
	double limit = c->has_limit ? c->limit : 0;
	struct host_cpu h;

	if (c->has_limit_mhz && host_cpu_read(&h, NULL) == 0 && h.mhz) {
		double by_mhz = (double)c->limit_mhz / h.mhz;

		if (limit == 0 || by_mhz < limit)
			limit = by_mhz;
	}
	return limit;
}

void engine_stream_close(struct engine_stream *s)
{
	safe_close(s->in);
	safe_close(s->out);
	safe_close(s->err);
	*s = ENGINE_STREAM_NONE;
}

void engine_exec_free(struct engine_exec *x)
{
	if (!x)
		return;
	engine_stream_close(&x->stream);
	x->instance->ops->exec_free(x);
}

/* -- plans ---------------------------------------------------------------------------------------- */

static void strings_free(char **v)
{
	for (char **s = v; s && *s; s++)
		free(*s);
	free(v);
}

static void disk_done(struct plan_disk *d)
{
	free(d->id);
	free(d->serial);
	free(d->path);
	api_disk_limits_done(&d->limits);
}

static void nic_done(struct plan_nic *n)
{
	free(n->id);
	free(n->net_id);
	for (unsigned int q = 0; q < n->n_queues; q++)
		safe_close(n->tap[q]);
}

static void mount_done(struct plan_mount *m)
{
	free(m->source);
	free(m->target);
	free(m->serial);
}

void engine_plan_free(struct engine_plan *p)
{
	if (!p)
		return;
	strings_free(p->args);
	strings_free(p->env);
	for (size_t k = 0; k < p->disks.n; k++)
		disk_done(&p->disks.v[k]);
	for (size_t k = 0; k < p->nics.n; k++)
		nic_done(&p->nics.v[k]);
	for (size_t k = 0; k < p->mounts.n; k++)
		mount_done(&p->mounts.v[k]);
	vec_done(&p->disks);
	vec_done(&p->nics);
	vec_done(&p->mounts);
	vec_done(&p->dns);
	free(p->hostname);
	free(p->user);
	free(p->cwd);
	free(p->rootfs);
	free(p->rootfs_store);
	free(p->cgroup);
	free(p->kernel);
	free(p->initrd);
	free(p->append);
	free(p->guest_config);
	free(p->seed);
	free(p->domain);
	free(p->log);
	free(p->restore);
	free(p);
}

/* -- the choice ----------------------------------------------------------------------------------- */

int engine_choose(const struct engine_env *env, const struct api_instance_spec *spec,
		  const struct engine_ops **ret, char reason[512], struct err **e)
{
	_cleanup_(buf_done) struct buf why = { 0 };

	for (const struct engine_ops *const *o = engine_table; *o; o++) {
		_cleanup_(err_freep) struct err *no = NULL;
		int r = 0;

		if (!(*o)->vm)
			continue;
		if ((*o)->usable)
			r = (*o)->usable(env, &no);
		if (r == 0 && (*o)->check)
			r = (*o)->check(env, spec, &no);
		if (r == 0) {
			snprintf(reason, 512, "%s", why.len ? buf_str(&why) : "the first choice");
			*ret = *o;
			return 0;
		}
		buf_addf(&why, "%snot %s: %s", why.len ? "; " : "", (*o)->name,
			 no ? err_msg(no) : err_name(-r));
	}
	return err_set(e, ENOTSUP, "engine.none", "no engine can run this VM%s%s",
		       why.len ? ": " : "", buf_str(&why));
}
