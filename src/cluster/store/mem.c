/* Store in memory, for tests and simulations: a list, searched; batches are checked whole before they are made. */
#include <stdlib.h>
#include <string.h>
#include "base/list.h"
#include "base/str.h"
#include "cluster/store/store_ops.h"

struct mem_record {
	struct list node;
	char *type, *id, *project, *name, *body;
	int64_t revision;
};

struct mem_store {
	struct store base;
	struct list records;
};

static struct mem_store *self(struct store *s)
{
	return container_of(s, struct mem_store, base);
}

static void record_free(struct mem_record *m)
{
	if (!m)
		return;
	free(m->type);
	free(m->id);
	free(m->project);
	free(m->name);
	free(m->body);
	free(m);
}
DEFINE_CLEANUP(struct mem_record *, record_free);

static struct mem_record *record_new(const struct store_record *r)
{
	_cleanup_(record_freep) struct mem_record *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->type = strdup(r->type);
	m->id = strdup(r->id);
	m->project = strdup(r->project);
	m->name = strdup(r->name);
	m->body = strdup(r->body);
	m->revision = r->revision;
	if (!m->type || !m->id || !m->project || !m->name || !m->body)
		return NULL;
	return TAKE(m);
}

static struct store_record view(const struct mem_record *m)
{
	return (struct store_record){ m->type, m->id, m->project, m->name, m->revision, m->body };
}

static struct mem_record *find(struct list *l, const char *id)
{
	struct mem_record *m;

	list_for_each_entry(m, l, node) {
		if (streq(m->id, id))
			return m;
	}
	return NULL;
}

static bool name_taken(struct list *l, const struct store_record *r)
{
	struct mem_record *m;

	list_for_each_entry(m, l, node) {
		if (streq(m->type, r->type) && streq(m->project, r->project) &&
		    streq(m->name, r->name) && !streq(m->id, r->id))
			return true;
	}
	return false;
}

static int load(struct store *s, store_each_fn *fn, void *arg, struct err **e)
{
	struct mem_record *m;

	list_for_each_entry(m, &self(s)->records, node) {
		struct store_record r = view(m);
		int ret = fn(arg, &r, e);

		if (ret < 0)
			return ret;
	}
	return 0;
}

static int change(struct list *l, const struct store_change *c, struct err **e)
{
	struct mem_record *old = find(l, c->record.id), *m;

	if (c->expect == 0 && old)
		return store_refuse_exists(&c->record, e);
	if (!old && (c->expect > 0 || c->op == STORE_DELETE))
		return store_refuse_missing(&c->record, e);
	if (c->expect > 0 && old->revision != c->expect)
		return store_refuse_changed(&c->record, c->expect, old->revision, e);
	if (c->op == STORE_PUT) {
		if (name_taken(l, &c->record))
			return store_refuse_exists(&c->record, e);
		m = record_new(&c->record);
		if (!m)
			return err_sys(e, ENOMEM, "store");
		list_add_tail(l, &m->node);
	}
	if (old) {
		list_del(&old->node);
		record_free(old);
	}
	return 0;
}

static void drop(struct list *l)
{
	struct list *n;

	while ((n = list_pop(l)))
		record_free(list_entry(n, struct mem_record, node));
}

/* On a copy, so that a batch that fails half-way leaves nothing. */
static int apply(struct store *s, const struct store_change *changes, size_t n, struct err **e)
{
	struct list copy = LIST_INIT(copy);
	struct mem_record *m;
	int r = 0;

	list_for_each_entry(m, &self(s)->records, node) {
		struct store_record rec = view(m);
		struct mem_record *c = record_new(&rec);

		if (!c) {
			drop(&copy);
			return err_sys(e, ENOMEM, "store");
		}
		list_add_tail(&copy, &c->node);
	}
	for (size_t i = 0; r == 0 && i < n; i++)
		r = change(&copy, &changes[i], e);
	if (r == 0) {
		drop(&self(s)->records);
		list_splice_tail(&self(s)->records, &copy);
	}
	drop(&copy);
	return r;
}

static void close_store(struct store *s)
{
	drop(&self(s)->records);
	free(self(s));
}

static const struct store_ops mem_ops = {
	.name = "memory",
	.load = load,
	.apply = apply,
	.close = close_store,
};

int store_open_mem(struct store **ret, struct err **e)
{
	struct mem_store *s = calloc(1, sizeof(*s));

	if (!s)
		return err_sys(e, ENOMEM, "store");
	s->base.ops = &mem_ops;
	list_init(&s->records);
	*ret = &s->base;
	return 0;
}
