/* The instances of a daemon: one struct beside each object, found by id; adoption after a restart.  See instance.h. */
#define LOG_MODULE "instance"
#include "node/instance/instance.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

struct instance *instance_get(struct instances *all, const char *id)
{
	hmap_for_each(n, &all->all, hash_str(id)) {
		struct instance *i = container_of(n, struct instance, node);

		if (streq(i->object->id, id))
			return i;
	}
	return NULL;
}

int instance_new(struct instances *all, struct object *o, struct instance **ret, struct err **e)
{
	struct instance *i = calloc(1, sizeof(*i));
	const char *state = json_str(json_get(o->status, "state"));
	int s = state ? gen_enum_find(&api_instance_state_enum, state) : -1;

	if (!i)
		return err_sys(e, ENOMEM, "instance '%s'", o->name);
	if (asprintf(&i->dir, "%s/instances/%s", all->node->paths.state, o->id) < 0 ||
	    asprintf(&i->run, "%s/instances/%s", all->node->paths.run, o->id) < 0) {
		free(i->dir);
		free(i);
		return err_sys(e, ENOMEM, "instance '%s'", o->name);
	}
	i->all = all;
	i->object = object_ref(o);
	i->state = s < 0 ? API_INSTANCE_STATE_CREATING : (enum api_instance_state)s;
	list_init(&i->waiters);
	list_init(&i->attaches);
	hmap_add(&all->all, &i->node, hash_str(o->id));
	if (ret)
		*ret = i;
	return 0;
}

void instance_free(struct instance *i)
{
	if (!i)
		return;
	health_stop(i);
	timer_stop(&i->restart_timer);
	hmap_remove(&i->all->all, &i->node);
	i->gone = true;
	instance_wake(i);
	engine_detach(i->engine);
	instance_unload(i);
	object_unref(i->object);
	free(i->dir);
	free(i->run);
	free(i);
}

static int make_folders(struct node *n, struct err **e)
{
	const char *const names[] = { "instances", "oci" };
	char path[4096];

	for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
		snprintf(path, sizeof(path), "%s/%s", n->paths.run, names[k]);
		if (mkdir(path, 0711) < 0 && errno != EEXIST)
			return err_sys(e, errno, "create '%s'", path);
	}
	snprintf(path, sizeof(path), "%s/instances", n->paths.state);
	if (mkdir(path, 0711) < 0 && errno != EEXIST)
		return err_sys(e, errno, "create '%s'", path);
	snprintf(path, sizeof(path), "%s/instances", n->paths.log);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_sys(e, errno, "create '%s'", path);
	return 0;
}

int instances_open(struct node *n, struct instances **ret, struct err **e)
{
	struct instances *all = calloc(1, sizeof(*all));
	int r = all ? hmap_init(&all->all) : -ENOMEM;

	if (r < 0) {
		free(all);
		return err_sys(e, ENOMEM, "instances");
	}
	all->node = n;
	all->userns = -1;
	list_init(&all->execs);
	all->env = (struct engine_env){ .loop = n->loop,
					.workers = n->workers,
					.images = images_store(n->images),
					.state_dir = n->paths.state,
					.run_dir = n->paths.run,
					.log_dir = n->paths.log };
	r = make_folders(n, e);
	for (struct object *o = inventory_next(n->inventory, "instance", NULL); o && r == 0;
	     o = inventory_next(n->inventory, "instance", o))
		r = instance_new(all, o, NULL, e);
	if (r < 0) {
		instances_close(all);
		return r;
	}
	*ret = all;
	return 0;
}

void instances_close(struct instances *all)
{
	struct hnode *n, *next;

	if (!all)
		return;
	for (n = hmap_walk(&all->all, NULL); n; n = next) {
		next = hmap_walk(&all->all, n);
		instance_free(container_of(n, struct instance, node));
	}
	hmap_done(&all->all);
	safe_close(all->userns);
	free(all);
}

/* -- after a restart of the daemon ---------------------------------------------------------------- */

struct adoption {
	struct instance *i;
	struct engine_call call;
	struct engine_exit exit;
	char *message;
	bool lost;
	struct adoption *next;
};

struct adoptions {
	struct instances *all;
	struct adoption *list;
};

static const struct engine_ops *engine_of(const struct instance *i)
{
	const char *kind = json_str(json_get(i->object->spec, "kind"));
	const char *engine = json_str(json_get(i->object->status, "engine"));

	if (kind && streq(kind, "vm"))
		return engine ? engine_by_name(engine) : NULL;
	return engine_by_name("container");
}

/* NICs of all that run, for one networks_apply(). */
static void connect_all(struct instances *all)
{
	VEC(struct nic_want) want = { 0 };
	VEC(char *) paths = { 0 };
	struct err *e = NULL;

	for (struct hnode *n = hmap_walk(&all->all, NULL); n; n = hmap_walk(&all->all, n)) {
		struct instance *i = container_of(n, struct instance, node);

		if (!i->engine || !instance_runs(i) || !i->spec)
			continue;
		for (size_t k = 0; k < i->spec->nics.n; k++) {
			char *path = NULL;
			struct nic_want w = { .instance = i->object->id,
					      .project = i->object->project,
					      .hostname = i->object->name,
					      .spec = &i->spec->nics.v[k],
					      .index = (unsigned int)k,
					      .vm = i->spec->kind == API_INSTANCE_KIND_VM,
					      .netns_fd = -1,
					      .cloud_init = i->spec->cloud_init,
					      .ports = i->spec->ports.v,
					      .n_ports = i->spec->ports.n };

			if (!w.vm &&
			    asprintf(&path, "/proc/%d/ns/net", (int)i->engine->info.pid) < 0)
				continue;
			w.netns = path;
			if (vec_push(&want, w) < 0 || vec_push(&paths, path) < 0)
				break;
		}
	}
	if (want.n && networks_apply(all->node->networks, want.v, want.n, &e) < 0)
		log_err("networks of running instances", "error", e);
	err_free(e);
	for (size_t k = 0; k < paths.n; k++)
		free(paths.v[k]);
	vec_done(&paths);
	vec_done(&want);
}

static void all_adopted(struct adoptions *as)
{
	struct instances *all = as->all;
	struct adoption *a, *next;

	connect_all(all);
	for (a = as->list; a; a = next) {
		next = a->next;
		if (a->lost) {
			if (!a->exit.when)
				a->exit = (struct engine_exit){
					.code = 255,
					.when = now_real(),
					.message =
						"it ended while the daemon was away; how is not known",
				};
			instance_ended(a->i, &a->exit);
		} else {
			instance_event(a->i, "adopted", NULL);
			health_start(a->i);
		}
		free(a->message);
		free(a);
	}
	free(as);
	all->ready(all->node);
}

static void one_adopted(struct adoptions *as)
{
	if (--as->all->adopting == 0)
		all_adopted(as);
}

static void on_adopted(struct engine_call *call, int r, struct err *e)
{
	struct adoption *a = container_of(call, struct adoption, call);

	if (r < 0 && r != -ESRCH)
		log_err("cannot be found again", "instance", a->i->object->id, "error", e);
	err_free(e);
	a->lost = r < 0;
	if (a->exit.message) { /* the engine's may go */
		a->message = strdup(a->exit.message);
		a->exit.message = a->message;
	}
	one_adopted(call->data);
}

/* Ports of the host that were chosen at the start stand in the status alone. */
static void take_ports(struct instance *i)
{
	const struct json *ports = json_get(i->object->status, "ports");

	for (size_t k = 0; k < i->spec->ports.n && k < json_len(ports); k++) {
		int64_t host = json_int(json_get(json_at(ports, k), "host"), 0);

		if (!i->spec->ports.v[k].has_host && host > 0) {
			i->spec->ports.v[k].host = (uint64_t)host;
			i->spec->ports.v[k].has_host = true;
		}
	}
}

static void adopt(struct adoptions *as, struct instance *i)
{
	const struct engine_ops *ops = engine_of(i);
	struct adoption *a = calloc(1, sizeof(*a));
	struct engine_attach at = { i->object->id, i->object->name,	    i->run,
				    &as->all->env, &instance_engine_events, i };
	struct err *e = NULL;
	int r = a ? 0 : -ENOMEM;

	if (r < 0)
		return;
	a->i = i;
	a->call.done = on_adopted;
	a->call.data = as;
	a->next = as->list;
	as->list = a;
	as->all->adopting++;
	if (!ops)
		r = -ESRCH;
	if (r == 0)
		r = instance_load(i, &e);
	if (r == 0)
		take_ports(i);
	if (r == 0)
		r = engine_attach(ops, &at, &i->engine, &e);
	if (r < 0)
		on_adopted(&a->call, r, e);
	else
		ops->adopt(i->engine, &a->exit, &a->call);
}

void instances_adopt(struct instances *all, void (*ready)(struct node *n))
{
	struct adoptions *as = calloc(1, sizeof(*as));

	all->ready = ready;
	if (!as) {
		ready(all->node);
		return;
	}
	as->all = all;
	all->adopting = 1; /* our own, so that calls which end at once do not end it all */
	for (struct hnode *n = hmap_walk(&all->all, NULL); n; n = hmap_walk(&all->all, n)) {
		struct instance *i = container_of(n, struct instance, node);

		if (instance_runs(i))
			adopt(as, i);
	}
	one_adopted(as);
}

/* -- with the host -------------------------------------------------------------------------------- */

static void start_task(struct instance *i)
{
	struct task_request rq = { .verb = "instance.start",
				   .target = i->object->id,
				   .project = i->object->project };
	struct err *e = NULL;

	if (task_submit(i->all->node->tasks, &rq, NULL, &e) < 0)
		log_err("does not start with the host", "instance", i->object->id, "error", e);
	err_free(e);
}

/* The first start of the daemon since the host's: its run folder lies on a tmpfs. */
static bool host_booted(struct node *n)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/up", n->paths.run);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	safe_close(fd);
	return fd >= 0;
}

static bool has_task(struct node *n, const char *id)
{
	for (struct object *o = inventory_next(n->inventory, "task", NULL); o;
	     o = inventory_next(n->inventory, "task", o)) {
		const char *target = json_str(json_get(o->spec, "target"));

		if (target && streq(target, id) && !json_get(o->status, "finished"))
			return true;
	}
	return false;
}

/* Half-made ones whose task is lost: a power cut may take back the journal, which is on disk a moment later than the object. */
static void sweep(struct instances *all)
{
	struct object *o, *next;

	for (o = inventory_next(all->node->inventory, "instance", NULL); o; o = next) {
		struct instance *i = instance_get(all, o->id);
		struct engine_exit x = { .code = 255,
					 .when = now_real(),
					 .message = "its start was cut short" };

		next = inventory_next(all->node->inventory, "instance", o);
		if (!i || has_task(all->node, o->id))
			continue;
		if (i->state == API_INSTANCE_STATE_STARTING) {
			instance_ended(i, &x);
		} else if (i->state == API_INSTANCE_STATE_CREATING) {
			struct task_request rq = { .verb = "instance.remove",
						   .target = o->id,
						   .project = o->project };

			task_submit(all->node->tasks, &rq, NULL, NULL);
		}
	}
}

void instances_autostart(struct instances *all)
{
	sweep(all);
	if (!host_booted(all->node))
		return;
	for (struct object *o = inventory_next(all->node->inventory, "instance", NULL); o;
	     o = inventory_next(all->node->inventory, "instance", o)) {
		struct instance *i = instance_get(all, o->id);
		struct api_instance_spec s = { 0 };

		if (!i || i->state != API_INSTANCE_STATE_STOPPED ||
		    timer_active(&i->restart_timer) ||
		    api_instance_spec_parse(&s, o->spec, GEN_TRUSTED, NULL) < 0)
			continue;
		if (restart_at_boot(&s.restart, s.autostart, false, true))
			start_task(i);
		api_instance_spec_done(&s);
	}
}
