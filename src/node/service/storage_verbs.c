/* Making, resizing and removing volumes as tasks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/str.h"
#include "node/service/job.h"
#include "node/service/storage.h"

struct volume_job {
	struct task_job job;
	struct object *volume; /* referenced; NULL: gone */
	struct api_volume_spec spec;
	char path[4096];
	uint64_t size;
};

static int open_volume(struct task *t, struct err **e)
{
	struct node *n = task_daemon(t);
	struct volume_job *v = calloc(1, sizeof(*v));
	struct object *o = inventory_get(n->inventory, t->target);
	int r = 0;

	if (!v)
		return err_sys(e, ENOMEM, "volume");
	if (o) {
		r = api_volume_spec_parse(&v->spec, o->spec, GEN_TRUSTED, e);
		if (r == 0)
			r = volume_file(n, o, v->path, sizeof(v->path), e);
		v->volume = object_ref(o);
	}
	v->size = (uint64_t)json_int(json_get(t->args, "size"), 0);
	t->data = v;
	if (r < 0) {
		object_unref(v->volume);
		free(v);
	}
	return r;
}

static void close_volume(struct task *t)
{
	struct volume_job *v = t->data;

	task_job_done(&v->job);
	object_unref(v->volume);
	api_volume_spec_done(&v->spec);
	free(v);
}

static void cancel_volume(struct task *t)
{
	struct volume_job *v = t->data;

	task_job_cancel(&v->job);
}

static int make_file(struct task_job *j, struct err **e)
{
	struct volume_job *v = container_of(j, struct volume_job, job);

	return volume_make_file(v->path, &v->spec, &j->op, e);
}

static void create_run(struct task *t)
{
	struct volume_job *v = t->data;

	v->job.fn = make_file;
	task_job_run(&v->job, t);
}

static int drop_file(struct task_job *j, struct err **e)
{
	struct volume_job *v = container_of(j, struct volume_job, job);

	if (unlink(v->path) < 0 && errno != ENOENT)
		return err_sys(e, errno, "remove '%s'", v->path);
	return 0;
}

static void drop_object(struct task_job *j, int r)
{
	struct volume_job *v = container_of(j, struct volume_job, job);
	struct node *n = task_daemon(j->task);

	if (r == 0 && !v->volume->deleted)
		inventory_delete(n->inventory, v->volume, NULL);
}

static void drop(struct task *t)
{
	struct volume_job *v = t->data;

	if (!v->volume || v->volume->deleted) {
		task_next(t);
		return;
	}
	v->job = (struct task_job){ .fn = drop_file, .after = drop_object };
	task_job_run(&v->job, t);
}

static void ready_run(struct task *t)
{
	struct volume_job *v = t->data;
	struct node *n = task_daemon(t);
	struct json *p = json_new_obj();

	json_set(p, "state", json_new_str("ready"));
	inventory_patch_status(n->inventory, v->volume, p, NULL);
	task_next(t);
}

static const struct task_step create_steps[] = {
	{ "volume.create", create_run, drop },
	{ "volume.ready", ready_run, NULL },
};
static const struct task_verb create_verb = {
	.name = "volume.create",
	.steps = create_steps,
	.n_steps = ARRAY_SIZE(create_steps),
	.open = open_volume,
	.close = close_volume,
	.cancel = cancel_volume,
};

static const struct task_step remove_steps[] = { { "volume.remove", drop, NULL } };
static const struct task_verb remove_verb = {
	.name = "volume.remove",
	.steps = remove_steps,
	.n_steps = ARRAY_SIZE(remove_steps),
	.forward = true,
	.open = open_volume,
	.close = close_volume,
};

/* -- datastores: nothing that takes time ---------------------------------------------------------- */

static void end(struct task *t, int r, struct err *e)
{
	if (r < 0)
		task_fail(t, e);
	else
		task_next(t);
}

static void datastore_make(struct task *t)
{
	_cleanup_(api_datastore_done) struct api_datastore d = { 0 };
	struct err *e = NULL;
	struct object *o = NULL;
	int r = api_datastore_parse(&d, t->args, GEN_TRUSTED, &e);

	if (r == 0)
		r = datastore_create(task_daemon(t), &d, &o, &e);
	if (r == 0) {
		t->result = json_new_obj();
		json_set(t->result, "id", json_new_str(o->id));
		json_set(t->result, "name", json_new_str(o->name));
	}
	end(t, r, e);
}

static void datastore_drop(struct task *t)
{
	struct node *n = task_daemon(t);
	struct object *o = inventory_get(n->inventory, t->target);
	struct err *e = NULL;
	int r = o ? datastore_remove(n, o, &e) : 0;

	end(t, r, e);
}

static const struct task_step datastore_make_steps[] = { { "datastore.create", datastore_make,
							   NULL } };
static const struct task_verb datastore_create_verb = { .name = "datastore.create",
							.steps = datastore_make_steps,
							.n_steps = 1 };
static const struct task_step datastore_drop_steps[] = { { "datastore.remove", datastore_drop,
							   NULL } };
static const struct task_verb datastore_remove_verb = {
	.name = "datastore.remove", .steps = datastore_drop_steps, .n_steps = 1, .forward = true
};

const struct task_verb *const storage_verbs[] = {
	&create_verb, &remove_verb, &datastore_create_verb, &datastore_remove_verb, NULL,
};
