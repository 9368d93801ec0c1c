/* Starts and ends of instances.
 *
 * A start of a container: engine chosen and attached, root mounted, plan made; the engine prepares (namespaces are there); NICs
 * and ports are put; streams that wait are attached; the engine starts the command.  A VM's NICs are taps and come first.
 * An end comes from the engine: everything of the run is taken away, then it is shown, then the restart policy speaks.
 * Between the parts are fault points, where tests let the daemon die. */
#define LOG_MODULE "instance"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "base/atomicfile.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/str.h"
#include "node/instance/instance.h"
#include "node/instance/plan_vm.h"

struct instance_run {
	struct instance *i;
	struct engine_plan *plan;
	struct engine_call call;
	instance_done_fn *done;
	void *arg;
	unsigned int attaching; /* streams not attached yet */
	bool ended;		/* before start() said anything */
	struct engine_exit exit;
	char message[512];
};

/* -- the files that a container sees as its own --------------------------------------------------- */

static int write_file(const char *dir, const char *name, const struct buf *b, struct err **e)
{
	char path[4096];
	int fd, r;

	snprintf(path, sizeof(path), "%s/bundle/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	r = fd < 0 ? -errno : write_all(fd, buf_str(b), b->len);
	safe_close(fd);
	return r < 0 ? err_sys(e, -r, "write '%s'", path) : 0;
}

static struct nic_want nic_want(struct instance *i, size_t k)
{
	return (struct nic_want){ .instance = i->object->id,
				  .project = i->object->project,
				  .hostname = i->object->name,
				  .spec = &i->spec->nics.v[k],
				  .index = (unsigned int)k,
				  .vm = i->spec->kind == API_INSTANCE_KIND_VM,
				  .netns_fd = -1,
				  .cloud_init = i->spec->cloud_init };
}

static void plan_dns(struct instance *i, struct engine_plan *p)
{
	struct ipaddr servers[NET_DNS_MAX];
	unsigned int n = 0;
	char domain[128];
	struct nic_want w;

	if (i->spec->nics.n == 0)
		return;
	w = nic_want(i, 0);
	if (networks_dns(i->all->node->networks, &w, servers, &n, domain) < 0)
		return;
	for (unsigned int k = 0; k < n; k++)
		vec_push(&p->dns, servers[k]);
	p->domain = domain[0] ? strdup(domain) : NULL;
}

static int write_resolv(struct instance *i, const struct engine_plan *p, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	char text[IPADDR_TEXT];

	if (p->domain)
		buf_addf(&b, "search %s\n", p->domain);
	for (size_t k = 0; k < p->dns.n; k++)
		buf_addf(&b, "nameserver %s\n", ipaddr_format(&p->dns.v[k], text));
	return write_file(i->run, "resolv.conf", &b, e);
}

static int write_hosts(struct instance *i, const struct engine_plan *p, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	char text[IPADDR_TEXT];
	bool named = false;

	buf_adds(&b, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
	for (size_t k = 0; k < p->nics.n && !named; k++) {
		for (unsigned int a = 0; a < p->nics.v[k].n_addrs; a++) {
			buf_addf(&b, "%s\t", ipaddr_format(&p->nics.v[k].addrs[a].addr, text));
			if (p->domain)
				buf_addf(&b, "%s.%s ", p->hostname, p->domain);
			buf_addf(&b, "%s\n", p->hostname);
			named = true;
		}
	}
	if (!named)
		buf_addf(&b, "127.0.1.1\t%s\n", p->hostname);
	return write_file(i->run, "hosts", &b, e);
}

static int write_hostname(struct instance *i, const struct engine_plan *p, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	buf_addf(&b, "%s\n", p->hostname);
	return write_file(i->run, "hostname", &b, e);
}

/* -- start ---------------------------------------------------------------------------------------- */

static void run_done(struct instance_run *run, int r, struct err *e)
{
	struct instance *i = run->i;
	bool ended = run->ended && r == 0;
	struct engine_exit x = run->exit;
	char message[512];

	snprintf(message, sizeof(message), "%s", run->message);
	x.message = message[0] ? message : NULL;
	i->starting = NULL;
	engine_plan_free(run->plan);
	run->done(run->arg, r, e);
	free(run);
	if (ended)
		instance_ended(i, &x);
}

static void fail_waiting(struct instance *i, int r)
{
	struct instance_attach *a;

	while (!list_empty(&i->attaches)) {
		struct err *e = NULL;

		a = list_entry(list_pop(&i->attaches), struct instance_attach, node);
		a->node = (struct list){ 0 };
		err_set(&e, -r, "instance.start", "instance '%s' did not start", i->object->name);
		a->fn(a, NULL, r, e);
	}
}

static void run_fail(struct instance_run *run, int r, struct err *e)
{
	fail_waiting(run->i, r);
	run_done(run, r, e);
}

static void on_started(struct engine_call *call, int r, struct err *e)
{
	struct instance_run *run = container_of(call, struct instance_run, call);

	if (r == 0)
		r = FAULT_POINT("instance.started");
	if (r < 0)
		run_fail(run, r, e);
	else
		run_done(run, 0, NULL);
}

static void start_now(struct instance_run *run)
{
	struct instance *i = run->i;
	struct err *e = NULL;
	int r = FAULT_POINT("instance.run");

	if (r < 0) {
		err_sys(&e, -r, "start");
		run_fail(run, r, e);
		return;
	}
	run->call.done = on_started;
	i->engine->ops->start(i->engine, run->plan, &run->call);
}

static void on_attached(struct engine_call *call, int r, struct err *e)
{
	struct instance_attach *a = container_of(call, struct instance_attach, call);
	struct instance_run *run = call->data;

	a->fn(a, r == 0 ? &a->stream : NULL, r, e);
	if (--run->attaching == 0)
		start_now(run);
}

/* Streams first, so that not one byte of the command is missed. */
static void attach_all(struct instance_run *run)
{
	struct instance *i = run->i;

	run->attaching = 1;
	while (!list_empty(&i->attaches)) {
		struct instance_attach *a =
			list_entry(list_pop(&i->attaches), struct instance_attach, node);

		a->node = (struct list){ 0 };
		a->call.done = on_attached;
		a->call.data = run;
		run->attaching++;
		*a->busy = true;
		i->engine->ops->console(i->engine, &a->stream, &a->call);
	}
	if (--run->attaching == 0)
		start_now(run);
}

static int put_nics(struct instance_run *run, struct err **e)
{
	struct instance *i = run->i;
	_cleanup_(closep) int netns = -1;
	char path[64];
	int r = FAULT_POINT("instance.network");

	if (r < 0)
		return err_sys(e, -r, "network");
	if (i->spec->kind == API_INSTANCE_KIND_CONTAINER && i->spec->nics.n) {
		snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)i->engine->info.pid);
		netns = open(path, O_RDONLY | O_CLOEXEC);
		if (netns < 0)
			return err_sys(e, errno, "open '%s'", path);
	}
	for (size_t k = 0; k < i->spec->nics.n; k++) {
		struct nic_want w = nic_want(i, k);
		struct plan_nic pn;

		w.netns_fd = netns;
		r = networks_nic_put(i->all->node->networks, &w, &pn, e);
		if (r < 0)
			return r;
		if (vec_push(&run->plan->nics, pn) < 0)
			return err_sys(e, ENOMEM, "network");
	}
	r = FAULT_POINT("instance.ports");
	if (r < 0)
		return err_sys(e, -r, "ports");
	for (size_t k = 0; k < i->spec->ports.n && i->spec->nics.n; k++) {
		r = networks_port_put(i->all->node->networks, i->object->id, i->spec->nics.v[0].id,
				      (unsigned int)k, &i->spec->ports.v[k], e);
		if (r < 0)
			return err_wrap(e, r, "publish port %llu",
					(unsigned long long)i->spec->ports.v[k].guest);
	}
	return 0;
}

int instance_update_nics(struct instance *i, struct err **e)
{
	_cleanup_(closep) int netns = -1;
	char path[64];
	int r = 0;

	if (i->spec->kind == API_INSTANCE_KIND_CONTAINER && i->spec->nics.n) {
		snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)i->engine->info.pid);
		netns = open(path, O_RDONLY | O_CLOEXEC);
		if (netns < 0)
			return err_sys(e, errno, "open '%s'", path);
	}
	for (size_t k = 0; k < i->spec->nics.n && r == 0; k++) {
		struct nic_want w = nic_want(i, k);

		w.netns_fd = netns;
		r = networks_nic_put(i->all->node->networks, &w, NULL, e);
	}
	return r;
}

static void on_prepared(struct engine_call *call, int r, struct err *e)
{
	struct instance_run *run = container_of(call, struct instance_run, call);

	if (r == 0 && run->i->spec->kind == API_INSTANCE_KIND_CONTAINER) { /* a VM's come first */
		r = put_nics(run, &e);
		if (r == 0)
			r = write_hosts(run->i, run->plan, &e);
	}
	if (r < 0)
		run_fail(run, r, e);
	else
		attach_all(run);
}

static int choose_engine(struct instance *i, struct err **e)
{
	struct instances *all = i->all;
	struct engine_attach at = { i->object->id, i->object->name,	    i->run,
				    &all->env,	   &instance_engine_events, i };
	const struct engine_ops *ops = engine_by_name("container");
	char reason[512] = "";
	int r = 0;

	if (i->spec->kind == API_INSTANCE_KIND_VM) {
		if (i->spec->vm.engine == API_VM_ENGINE_AUTO) {
			r = engine_choose(&all->env, i->spec, &ops, reason, e);
		} else {
			ops = engine_by_name(api_vm_engine_str(i->spec->vm.engine));
			if (!ops)
				r = err_set(e, ENOTSUP, "engine.none",
					    "this daemon has no engine '%s'",
					    api_vm_engine_str(i->spec->vm.engine));
			if (r == 0 && ops->usable)
				r = ops->usable(&all->env, e);
			if (r == 0 && ops->check)
				r = ops->check(&all->env, i->spec, e);
			snprintf(reason, sizeof(reason), "as the instance says");
		}
		if (r == 0) {
			struct json *p = json_new_obj();

			json_set(p, "engine", json_new_str(ops->name));
			json_set(p, "engine_reason", json_new_str(reason));
			inventory_patch_status(all->node->inventory, i->object, p, NULL);
		}
	}
	if (r < 0 || (i->engine && i->engine->ops == ops))
		return r;
	engine_detach(i->engine);
	i->engine = NULL;
	return engine_attach(ops, &at, &i->engine, e);
}

static int begin(struct instance_run *run, struct err **e)
{
	struct instance *i = run->i;
	int r = instance_load(i, e);

	if (r == 0 && i->spec->image)
		r = images_find(i->all->node->images, i->spec->image, &i->image, e);
	if (r == 0)
		r = choose_engine(i, e);
	if (r == 0)
		r = instance_plan(i, &run->plan, e);
	if (r == 0)
		r = FAULT_POINT("instance.mount") < 0 ? err_sys(e, EIO, "mount") : 0;
	if (r < 0)
		return r;
	plan_dns(i, run->plan);
	if (i->spec->kind == API_INSTANCE_KIND_CONTAINER) {
		r = instance_mount(i, run->plan, e);
		if (r == 0)
			r = write_resolv(i, run->plan, e);
		if (r == 0)
			r = write_hostname(i, run->plan, e);
		if (r == 0)
			r = write_hosts(i, run->plan, e);
	} else {
		r = instance_dirs(i, e);
		if (r == 0)
			r = put_nics(run, e);
		if (r == 0)
			r = instance_plan_vm(i, run->plan, e);
	}
	if (r == 0)
		r = FAULT_POINT("instance.prepare") < 0 ? err_sys(e, EIO, "prepare") : 0;
	return r;
}

void instance_start(struct instance *i, instance_done_fn *done, void *arg)
{
	struct instance_run *run = calloc(1, sizeof(*run));
	struct err *e = NULL;
	int r;

	if (!run) {
		done(arg, -ENOMEM, NULL);
		return;
	}
	run->i = i;
	run->done = done;
	run->arg = arg;
	i->starting = run;
	i->stop_wanted = false;
	r = begin(run, &e);
	if (r < 0) {
		run_fail(run, r, e);
		return;
	}
	run->call.done = on_prepared;
	if (i->engine->ops->prepare)
		i->engine->ops->prepare(i->engine, run->plan, &run->call);
	else
		attach_all(run);
}

/* -- taking away ---------------------------------------------------------------------------------- */

struct cleaning {
	struct instance *i;
	struct engine_call call;
	instance_done_fn *done;
	void *arg;
};

static void keep_first(int *r, int now, struct err **e, struct err **mine)
{
	if (now < 0 && *r == 0) {
		*r = now;
		err_move(e, mine);
	}
	err_clear(mine);
}

/* What the engine did not make, each part whatever became of the others. */
static int clean_rest(struct instance *i, struct err **e)
{
	struct networks *ns = i->all->node->networks;
	struct err *mine = NULL;
	int r = 0;

	if (!i->spec)
		keep_first(&r, instance_load(i, &mine), e, &mine);
	for (size_t k = 0; i->spec && k < i->spec->ports.n; k++)
		keep_first(&r, networks_port_remove(ns, i->object->id, (unsigned int)k, &mine), e,
			   &mine);
	for (size_t k = 0; i->spec && k < i->spec->nics.n; k++)
		keep_first(&r, networks_nic_remove(ns, i->object->id, i->spec->nics.v[k].id, &mine),
			   e, &mine);
	keep_first(&r, instance_umount(i, &mine), e, &mine);
	for (size_t k = 0; i->spec && k < i->spec->mounts.n; k++) {
		const struct api_instance_mount *m = &i->spec->mounts.v[k];

		if (m->type == API_MOUNT_TYPE_VOLUME)
			keep_first(&r,
				   volume_release(i->all->node, i->object->project, m->source,
						  i->object->id, &mine),
				   e, &mine);
	}
	for (size_t k = 0; i->spec && k < i->spec->disks.n; k++) {
		if (i->spec->disks.v[k].volume)
			keep_first(&r,
				   volume_release(i->all->node, i->object->project,
						  i->spec->disks.v[k].volume, i->object->id, &mine),
				   e, &mine);
	}
	if (r == 0)
		keep_first(&r, instance_delete_run(i, &mine), e, &mine);
	instance_unload(i);
	return r;
}

static void on_cleaned(struct engine_call *call, int r, struct err *e)
{
	struct cleaning *c = container_of(call, struct cleaning, call);
	struct instance *i = c->i;

	if (r == 0 && FAULT_POINT("instance.cleaned") < 0)
		r = -EIO;
	if (r == 0)
		r = clean_rest(i, &e);
	i->cleaning = false;
	c->done(c->arg, r, e);
	free(c);
}

void instance_clean(struct instance *i, instance_done_fn *done, void *arg)
{
	struct cleaning *c = calloc(1, sizeof(*c));
	struct err *e = NULL;
	int r = c ? 0 : -ENOMEM;

	if (r == 0 && !i->engine && access(i->run, F_OK) == 0) { /* of an earlier daemon */
		r = instance_load(i, &e);
		if (r == 0)
			r = choose_engine(i, &e);
	}
	if (r < 0) {
		free(c);
		done(arg, r, e);
		return;
	}
	*c = (struct cleaning){ .i = i, .done = done, .arg = arg, .call.done = on_cleaned };
	i->cleaning = true;
	if (i->engine)
		i->engine->ops->cleanup(i->engine, &c->call);
	else
		on_cleaned(&c->call, 0, NULL);
}

/* -- the end -------------------------------------------------------------------------------------- */

struct ending {
	struct instance *i;
	struct engine_exit exit;
	char *message;
	bool on_purpose;
	nsec_t ran;
};

static void submit(struct instance *i, const char *verb, struct json *args)
{
	struct task_request rq = {
		.verb = verb, .target = i->object->id, .project = i->object->project, .args = args
	};
	struct err *e = NULL;

	if (task_submit(i->all->node->tasks, &rq, NULL, &e) < 0)
		log_err("cannot go on", "instance", i->object->id, "verb", verb, "error", e);
	err_free(e);
	json_free(args);
}

static void on_restart(struct timer *t)
{
	struct json *args = json_new_obj();

	json_set(args, "policy", json_new_bool(true));
	submit(t->data, "instance.start", args);
}

static void show_end(struct ending *x)
{
	struct instance *i = x->i;
	struct json *p = json_new_obj(), *data = json_new_obj();
	char t[32];

	json_set(p, "exit_code", json_new_int(x->exit.code));
	json_set(p, "oom_killed", json_new_bool(x->exit.oom));
	json_set(p, "finished", json_new_str(format_time(x->exit.when, t, sizeof(t))));
	inventory_patch_status(i->all->node->inventory, i->object, p, NULL);
	json_set(data, "exit_code", json_new_int(x->exit.code));
	json_set(data, "oom_killed", json_new_bool(x->exit.oom));
	instance_event(i, "exited", data);
	if (x->exit.oom)
		instance_event(i, "oom", NULL);
}

static void act(struct ending *x)
{
	_cleanup_(api_instance_spec_done) struct api_instance_spec s = { 0 };
	struct instance *i = x->i;
	nsec_t delay = 0;

	if (i->removing || api_instance_spec_parse(&s, i->object->spec, GEN_TRUSTED, NULL) < 0)
		return;
	switch (restart_ended(&i->restart, &s.restart, x->exit.code, x->on_purpose, x->ran,
			      &delay)) {
	case RESTART_AFTER:
		i->restart_timer.data = i;
		timer_start(i->all->node->loop, &i->restart_timer, "restart", delay, 0, on_restart);
		break;
	case RESTART_GIVE_UP:
		instance_event(i, "gave_up", NULL);
		break;
	case RESTART_NOT:
		if (s.auto_remove)
			submit(i, "instance.remove", NULL);
	}
}

static void on_end_clean(void *arg, int r, struct err *e)
{
	struct ending *x = arg;
	struct instance *i = x->i;

	show_end(x);
	if (r < 0) {
		log_err("remains of a run", "instance", i->object->id, "error", e);
		instance_move(i, API_INSTANCE_STATE_FAILED, err_msg(e));
	} else {
		instance_move(i, API_INSTANCE_STATE_STOPPED, x->message);
		act(x);
	}
	err_free(e);
	free(x->message);
	free(x);
}

static nsec_t ran_for(const struct instance *i, nsec_t end)
{
	const char *s = json_str(json_get(i->object->status, "started"));
	nsec_t began;

	return s && parse_time(s, &began) == 0 ? end - began : 0;
}

void instance_ended(struct instance *i, const struct engine_exit *x)
{
	struct ending *end = calloc(1, sizeof(*end));

	if (!end)
		return;
	health_stop(i);
	end->i = i;
	end->exit = *x;
	end->message = x->message ? strdup(x->message) : NULL;
	end->on_purpose = i->stop_wanted || i->state == API_INSTANCE_STATE_STOPPING;
	end->ran = ran_for(i, x->when);
	i->stop_wanted = false;
	if (i->state == API_INSTANCE_STATE_PAUSED || i->state == API_INSTANCE_STATE_RUNNING)
		instance_move(i, API_INSTANCE_STATE_STOPPING, NULL);
	instance_clean(i, on_end_clean, end);
}

/* -- what engines tell ---------------------------------------------------------------------------- */

static void on_exit_event(struct engine_instance *ei, const struct engine_exit *x)
{
	struct instance *i = ei->owner;

	if (i->starting) { /* told when start() is over */
		i->starting->ended = true;
		i->starting->exit = *x;
		snprintf(i->starting->message, sizeof(i->starting->message), "%s",
			 x->message ? x->message : "");
		return;
	}
	if (!i->cleaning)
		instance_ended(i, x);
}

static void on_oom(struct engine_instance *ei)
{
	instance_event(ei->owner, "oom", NULL);
}

static void on_change(struct engine_instance *ei, const char *what)
{
	struct instance *i = ei->owner;

	if (streq(what, "paused") && i->state == API_INSTANCE_STATE_RUNNING)
		instance_move(i, API_INSTANCE_STATE_PAUSED, "the guest or its monitor stopped it");
	else if (streq(what, "resumed") && i->state == API_INSTANCE_STATE_PAUSED)
		instance_move(i, API_INSTANCE_STATE_RUNNING, NULL);
	instance_event(i, what, NULL);
}

const struct engine_events instance_engine_events = {
	.on_exit = on_exit_event,
	.on_oom = on_oom,
	.on_change = on_change,
};
