/* The inventory; see inventory.h.
 *
 * Invariants: (1) an object in the indexes is in the store with the same spec and revision; (2) an object on the dirty list
 * differs from the store in status alone; (3) memory changes only after the store accepted. */
#define LOG_MODULE "inventory"
#include "node/inventory.h"

#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/vec.h"
#include "gen/error.h"
#include "gen/errors.h"

#define WRITE_DELAY (100 * NSEC_PER_MSEC)

struct type {
	struct list node, objects;
	size_t n;
	char name[];
};

struct inventory {
	struct store *store;
	struct loop *loop;
	struct hmap by_id, by_name;
	struct list types, listeners, dirty;
	struct timer write_timer;
};

/* -- objects -------------------------------------------------------------------------------------- */

static uint64_t name_hash(const char *type, const char *project, const char *name)
{
	return hash_str(type) * 31 + hash_str(project) * 17 + hash_str(name);
}

static void object_free(struct object *o)
{
	free(o->project);
	free(o->name);
	free(o->description);
	json_free(o->labels);
	json_free(o->spec);
	json_free(o->status);
	free(o->text);
	free(o);
}

struct object *object_ref(struct object *o)
{
	o->refs++;
	return o;
}

void object_unref(struct object *o)
{
	if (o && --o->refs == 0)
		object_free(o);
}

static struct type *get_type(struct inventory *inv, const char *name, bool make)
{
	struct type *t;

	list_for_each_entry(t, &inv->types, node) {
		if (streq(t->name, name))
			return t;
	}
	t = make ? calloc(1, sizeof(*t) + strlen(name) + 1) : NULL;
	if (!t)
		return NULL;
	strcpy(t->name, name);
	list_init(&t->objects);
	list_add_tail(&inv->types, &t->node);
	return t;
}

static void forget_text(struct object *o)
{
	free(o->text);
	o->text = NULL;
}

/* What goes to the store: everything that is not a column of it. */
static char *body_of(const struct object *o)
{
	_cleanup_(json_freep) struct json *b = json_new_obj();
	int r = json_set(b, "created", json_new_int(o->created));

	if (o->description)
		r = json_set(b, "description", json_new_str(o->description)) ?: r;
	if (o->labels)
		r = json_set(b, "labels", json_ref(o->labels)) ?: r;
	r = json_set(b, "spec", json_ref(o->spec)) ?: r;
	r = json_set(b, "status", json_ref(o->status)) ?: r;
	return r < 0 ? NULL : json_text(b, JSON_COMPACT);
}

struct json *object_json(const struct object *o)
{
	_cleanup_(json_freep) struct json *b = json_new_obj();
	char created[32];
	int r = json_set(b, "id", json_new_str(o->id));

	r = json_set(b, "name", json_new_str(o->name)) ?: r;
	if (o->project[0])
		r = json_set(b, "project", json_new_str(o->project)) ?: r;
	if (o->description)
		r = json_set(b, "description", json_new_str(o->description)) ?: r;
	r = json_set(b, "labels", o->labels ? json_ref(o->labels) : json_new_obj()) ?: r;
	r = json_set(b, "created", json_new_str(format_time(o->created, created, sizeof(created))))
		    ?: r;
	r = json_set(b, "revision", json_new_int(o->revision)) ?: r;
	r = json_set(b, "spec", json_ref(o->spec)) ?: r;
	r = json_set(b, "status", json_ref(o->status)) ?: r;
	return r < 0 ? NULL : TAKE(b);
}

const char *object_text(struct object *o)
{
	if (!o->text) {
		_cleanup_(json_freep) struct json *b = object_json(o);

		o->text = b ? json_text(b, JSON_COMPACT) : NULL;
	}
	return o->text;
}

static void index_name(struct inventory *inv, struct object *o)
{
	hmap_add(&inv->by_name, &o->by_name, name_hash(o->type, o->project, o->name));
}

static void index_add(struct inventory *inv, struct type *t, struct object *o)
{
	o->type = t->name;
	t->n++;
	list_add_tail(&t->objects, &o->node);
	hmap_add(&inv->by_id, &o->by_id, hash_str(o->id));
	index_name(inv, o);
}

static void tell(struct inventory *inv, enum inventory_event ev, struct object *o)
{
	struct inventory_listener *l, *tmp;

	list_for_each_entry_safe(l, tmp, &inv->listeners, node)
		l->fn(l, ev, o);
}

void inventory_listen(struct inventory *inv, struct inventory_listener *l)
{
	list_add_tail(&inv->listeners, &l->node);
}

void inventory_unlisten(struct inventory_listener *l)
{
	list_del(&l->node);
}

/* -- loading -------------------------------------------------------------------------------------- */

static struct json *obj_or_empty(const struct json *v)
{
	return v ? json_clone(v) : json_new_obj();
}

static int load_one(void *arg, const struct store_record *r, struct err **e)
{
	_cleanup_(json_freep) struct json *body = NULL;
	_cleanup_(object_unrefp) struct object *o = calloc(1, sizeof(*o));
	struct inventory *inv = arg;
	struct type *t = get_type(inv, r->type, true);
	const char *text;
	int ret;

	if (!o || !t)
		return err_sys(e, ENOMEM, "load %s '%s'", r->type, r->name);
	o->refs = 1;
	ret = json_parse(r->body, strlen(r->body), NULL, &body, e);
	if (ret < 0)
		return err_wrap(e, ret, "load %s '%s'", r->type, r->name);
	snprintf(o->id, sizeof(o->id), "%s", r->id);
	o->project = strdup(r->project);
	o->name = strdup(r->name);
	o->revision = r->revision;
	o->created = json_int(json_get(body, "created"), 0);
	text = json_str(json_get(body, "description"));
	o->description = text ? strdup(text) : NULL;
	if (json_get(body, "labels"))
		o->labels = json_clone(json_get(body, "labels"));
	o->spec = obj_or_empty(json_get(body, "spec"));
	o->status = obj_or_empty(json_get(body, "status"));
	if (!o->project || !o->name || !o->spec || !o->status || (text && !o->description))
		return err_sys(e, ENOMEM, "load %s '%s'", r->type, r->name);
	index_add(inv, t, TAKE(o));
	return 0;
}

/* The store has no order; ids do (UUIDv7). */
static int by_id(const void *a, const void *b)
{
	return strcmp((*(struct object *const *)a)->id, (*(struct object *const *)b)->id);
}

static int sort_type(struct type *t)
{
	struct object **v = calloc(t->n ? t->n : 1, sizeof(*v)), *o;
	size_t n = 0;

	if (!v)
		return -ENOMEM;
	list_for_each_entry(o, &t->objects, node)
		v[n++] = o;
	qsort(v, n, sizeof(struct object *), by_id);
	list_init(&t->objects);
	for (size_t i = 0; i < n; i++)
		list_add_tail(&t->objects, &v[i]->node);
	free(v);
	return 0;
}

int inventory_open(struct store *store, struct loop *loop, struct inventory **ret, struct err **e)
{
	_cleanup_(inventory_closep) struct inventory *inv = calloc(1, sizeof(*inv));
	struct type *t;
	int r;

	if (!inv) {
		store_free(store);
		return err_sys(e, ENOMEM, "inventory");
	}
	inv->store = store;
	inv->loop = loop;
	list_init(&inv->types);
	list_init(&inv->listeners);
	list_init(&inv->dirty);
	if (hmap_init(&inv->by_id) < 0 || hmap_init(&inv->by_name) < 0)
		return err_sys(e, ENOMEM, "inventory");
	r = store_load(store, load_one, inv, e);
	if (r < 0)
		return r;
	list_for_each_entry(t, &inv->types, node) {
		if (sort_type(t) < 0)
			return err_sys(e, ENOMEM, "inventory");
	}
	*ret = TAKE(inv);
	return 0;
}

void inventory_close(struct inventory *inv)
{
	_cleanup_(err_freep) struct err *e = NULL;
	struct list *tn, *on;

	if (!inv)
		return;
	if (inventory_flush(inv, &e) < 0)
		log_err("status is not written", "error", e);
	timer_stop(&inv->write_timer);
	while ((tn = list_pop(&inv->types))) {
		struct type *t = list_entry(tn, struct type, node);

		while ((on = list_pop(&t->objects)))
			object_unref(list_entry(on, struct object, node));
		free(t);
	}
	hmap_done(&inv->by_id);
	hmap_done(&inv->by_name);
	store_free(inv->store);
	free(inv);
}

struct store *inventory_store(struct inventory *inv)
{
	return inv->store;
}

/* -- reading -------------------------------------------------------------------------------------- */

struct object *inventory_get(struct inventory *inv, const char *id)
{
	hmap_for_each(n, &inv->by_id, hash_str(id)) {
		struct object *o = container_of(n, struct object, by_id);

		if (streq(o->id, id))
			return o;
	}
	return NULL;
}

static struct object *get_by_name(struct inventory *inv, const char *type, const char *project,
				  const char *name)
{
	hmap_for_each(n, &inv->by_name, name_hash(type, project, name)) {
		struct object *o = container_of(n, struct object, by_name);

		if (streq(o->name, name) && streq(o->type, type) && streq(o->project, project))
			return o;
	}
	return NULL;
}

static struct object *missing(const char *type, const char *ref, struct err **e)
{
	char id[ERR_ID_MAX];

	snprintf(id, sizeof(id), "%s.not_found", type);
	err_set(e, ENOENT, gen_error_find(id) ? id : ERR_REQUEST_NOT_FOUND, "there is no %s '%s'",
		type, ref);
	return NULL;
}

static bool in_project(const struct object *o, const char *project)
{
	return !project || streq(o->project, project);
}

struct object *inventory_find(struct inventory *inv, const char *type, const char *project,
			      const char *ref, struct err **e)
{
	struct object *o = project ? get_by_name(inv, type, project, ref) : NULL, *found = NULL;

	if (o)
		return o;
	o = inventory_get(inv, ref);
	if (o && streq(o->type, type) && in_project(o, project))
		return o;
	for (o = inventory_next(inv, type, NULL); strlen(ref) >= 4 && o;
	     o = inventory_next(inv, type, o)) {
		if (!str_starts(o->id, ref) || !in_project(o, project))
			continue;
		if (found) {
			err_set(e, EINVAL, ERR_REQUEST_AMBIGUOUS,
				"%s '%s': more than one id begins so", type, ref);
			return NULL;
		}
		found = o;
	}
	return found ? found : missing(type, ref, e);
}

struct object *inventory_next(struct inventory *inv, const char *type, struct object *o)
{
	struct type *t = get_type(inv, type, false);
	struct list *n;

	if (!t)
		return NULL;
	n = o ? o->node.next : t->objects.next;
	return n == &t->objects ? NULL : list_entry(n, struct object, node);
}

size_t inventory_count(struct inventory *inv, const char *type)
{
	struct type *t = get_type(inv, type, false);

	return t ? t->n : 0;
}

/* -- changing ------------------------------------------------------------------------------------- */

/* What only this host's next start has to know may be lost with its power. */
static bool is_passing(const struct object *o)
{
	return streq(o->type, "task") || json_bool(json_get(o->spec, "auto_remove"), false);
}

static int store_object(struct inventory *inv, const struct object *o, int64_t expect,
			struct err **e)
{
	_cleanup_(freep) char *body = body_of(o);
	struct store_change c = {
		.op = STORE_PUT,
		.record = { o->type, o->id, o->project, o->name, o->revision, body },
		.expect = expect,
	};

	if (!body)
		return err_sys(e, ENOMEM, "store %s '%s'", o->type, o->name);
	return (is_passing(o) ? store_apply_soon : store_apply)(inv->store, &c, 1, e);
}

int inventory_create(struct inventory *inv, const struct object_init *init, struct object **ret,
		     struct err **e)
{
	_cleanup_(object_unrefp) struct object *o = calloc(1, sizeof(*o));
	struct type *t = get_type(inv, init->type, true);
	struct uuid u = uuid_v7();
	int r;

	if (!o || !t)
		return err_sys(e, ENOMEM, "create %s '%s'", init->type, init->name);
	o->refs = 1;
	o->type = t->name;
	uuid_format(&u, o->id);
	o->created = now_real();
	o->revision = 1;
	o->project = strdup(init->project ? init->project : "");
	o->name = strdup(init->name);
	o->description = init->description && *init->description ? strdup(init->description) : NULL;
	o->labels = init->labels ? json_clone(init->labels) : NULL;
	o->spec = obj_or_empty(init->spec);
	o->status = obj_or_empty(init->status);
	if (!o->project || !o->name || !o->spec || !o->status || (init->labels && !o->labels))
		return err_sys(e, ENOMEM, "create %s '%s'", init->type, init->name);
	if (get_by_name(inv, t->name, o->project, o->name))
		return err_set(e, EEXIST, ERR_REQUEST_EXISTS, "%s '%s' exists already", o->type,
			       o->name);
	r = store_object(inv, o, 0, e);
	if (r < 0)
		return r;
	index_add(inv, t, o);
	*ret = o;
	tell(inv, OBJECT_CREATED, TAKE(o));
	return 0;
}

static int check_change(struct inventory *inv, const struct object *o,
			const struct object_change *c, struct err **e)
{
	struct object *other;

	if (c->expect && c->expect != o->revision)
		return err_set(e, ESTALE, ERR_REQUEST_CONFLICT,
			       "%s '%s' was changed meanwhile (revision %lld, not %lld)", o->type,
			       o->name, (long long)o->revision, (long long)c->expect);
	other = c->name ? get_by_name(inv, o->type, o->project, c->name) : NULL;
	if (other && other != o)
		return err_set(e, EEXIST, ERR_REQUEST_EXISTS, "%s '%s' exists already", o->type,
			       c->name);
	return 0;
}

int inventory_change(struct inventory *inv, struct object *o, const struct object_change *c,
		     struct err **e)
{
	_cleanup_(freep) char *name = NULL, *description = NULL;
	_cleanup_(json_freep) struct json *labels = NULL, *spec = NULL;
	struct object next = *o;
	int r = check_change(inv, o, c, e);

	if (r < 0)
		return r;
	if (c->name)
		next.name = name = strdup(c->name);
	if (c->description)
		next.description = description = *c->description ? strdup(c->description) : NULL;
	if (c->labels)
		next.labels = labels = json_kind(c->labels) == JSON_K_NULL ? NULL
									   : json_clone(c->labels);
	if (c->spec)
		next.spec = spec = json_clone(c->spec);
	if (!next.name || !next.spec || (c->description && *c->description && !description))
		return err_sys(e, ENOMEM, "change %s '%s'", o->type, o->name);
	next.revision++;
	r = store_object(inv, &next, o->revision, e);
	if (r < 0)
		return r;
	if (c->name) {
		hmap_remove(&inv->by_name, &o->by_name);
		free(o->name);
		o->name = TAKE(name);
		index_name(inv, o);
	}
	if (c->description) {
		free(o->description);
		o->description = TAKE(description);
	}
	if (c->labels) {
		json_free(o->labels);
		o->labels = TAKE(labels);
	}
	if (c->spec) {
		json_free(o->spec);
		o->spec = TAKE(spec);
	}
	o->revision = next.revision;
	forget_text(o);
	tell(inv, OBJECT_CHANGED, o);
	return 0;
}

/* All that is dirty in one transaction; -errno: one of them was refused, and none is written. */
static int flush_together(struct inventory *inv)
{
	VEC(struct store_change) changes = { 0 };
	struct object *o;
	int r = 0;

	list_for_each_entry(o, &inv->dirty, dirty_node) {
		struct store_change c = {
			.op = STORE_PUT,
			.record = { o->type, o->id, o->project, o->name, o->revision, body_of(o) },
			.expect = o->revision,
		};

		r = c.record.body ? vec_push(&changes, c) : -ENOMEM;
		if (r < 0) {
			free((char *)(uintptr_t)c.record.body);
			break;
		}
	}
	if (r == 0)
		r = store_apply_soon(inv->store, changes.v, changes.n, NULL);
	for (size_t k = 0; k < changes.n; k++)
		free((char *)(uintptr_t)changes.v[k].record.body);
	vec_done(&changes);
	return r;
}

int inventory_flush(struct inventory *inv, struct err **e)
{
	bool together = !list_empty(&inv->dirty) && flush_together(inv) == 0;
	int ret = 0;

	for (;;) {
		struct list *n = list_pop(&inv->dirty);
		struct object *o = n ? list_entry(n, struct object, dirty_node) : NULL;
		int r;

		if (!o)
			return ret;
		o->dirty = false;
		if (together)
			continue;
		r = store_object(inv, o, o->revision, ret ? NULL : e);
		if (r < 0)
			ret = r;
	}
}

static void write_later(struct timer *t)
{
	_cleanup_(err_freep) struct err *e = NULL;

	if (inventory_flush(t->data, &e) < 0)
		log_err("status is not written; it is kept in memory", "error", e);
}

int inventory_set_status(struct inventory *inv, struct object *o, struct json *status,
			 struct err **e)
{
	if (!status)
		return err_sys(e, ENOMEM, "status of %s '%s'", o->type, o->name);
	if (json_same(status, o->status)) {
		json_free(status);
		return 0;
	}
	json_free(o->status);
	o->status = status;
	forget_text(o);
	if (!o->dirty && !o->deleted) {
		o->dirty = true;
		list_add_tail(&inv->dirty, &o->dirty_node);
	}
	inv->write_timer.data = inv;
	if (!timer_active(&inv->write_timer))
		timer_start(inv->loop, &inv->write_timer, "inventory write", WRITE_DELAY, 0,
			    write_later);
	tell(inv, OBJECT_STATUS, o);
	return 0;
}

int inventory_patch_status(struct inventory *inv, struct object *o, struct json *patch,
			   struct err **e)
{
	struct json *merged = patch ? json_merge_patch(o->status, patch) : NULL;

	json_free(patch);
	return inventory_set_status(inv, o, merged, e);
}

int inventory_delete(struct inventory *inv, struct object *o, struct err **e)
{
	struct store_change c = { .op = STORE_DELETE, .record = { .id = o->id }, .expect = -1 };
	int r = (is_passing(o) ? store_apply_soon : store_apply)(inv->store, &c, 1, e);

	if (r < 0)
		return err_wrap(e, r, "delete %s '%s'", o->type, o->name);
	if (o->dirty)
		list_del(&o->dirty_node);
	o->dirty = false;
	o->deleted = true;
	list_del(&o->node);
	get_type(inv, o->type, false)->n--;
	hmap_remove(&inv->by_id, &o->by_id);
	hmap_remove(&inv->by_name, &o->by_name);
	tell(inv, OBJECT_DELETED, o);
	object_unref(o);
	return 0;
}
