/* Changing objects: what may change when, merge patches, whole replacements. */
#include "gen/object_int.h"

struct change {
	bool running;
	struct err **e;
};

static enum gen_mutable effective(const struct gen_field *f, enum gen_mutable inherited)
{
	return f->mutable_ == GEN_INHERIT ? inherited : (enum gen_mutable)f->mutable_;
}

static int refuse(const struct gen_field *f, enum gen_mutable m, const struct gen_at *at,
		  const struct change *c)
{
	if (f->flags & GEN_F_CONFLICT)
		return gen_bad(at, c->e, EEXIST, "schema.conflict",
			       "is not the present one: somebody changed the object");
	if (f->flags & GEN_F_READONLY)
		return gen_bad(at, c->e, EPERM, "schema.readonly", "is set by the daemon");
	if (m == GEN_NEVER)
		return gen_bad(at, c->e, EPERM, "schema.immutable", "cannot be changed");
	if (m == GEN_STOPPED && c->running)
		return gen_bad(at, c->e, EBUSY, "schema.running", "cannot change while running");
	return 0;
}

static int check_object(const struct gen_type *t, const void *now, const void *next,
			enum gen_mutable inherited, const struct gen_at *at,
			const struct change *c);

/* The element of v with the same key as elem; NULL: none, or elem has no key. */
static void *same_key(const struct gen_field *f, const struct gen_vec *v, const void *elem)
{
	const struct gen_field *key = &f->type->fields[f->list_key];
	const char *s = *(char **)gen_ptr(key, elem);

	for (size_t i = 0; s && i < v->n; i++) {
		const char *other = *(char **)gen_ptr(key, gen_elem(f, v, i));

		if (other && streq(s, other))
			return gen_elem(f, v, i);
	}
	return NULL;
}

/* Elements with the same key are compared field by field; one more or one less is a change of the list. */
static int check_keyed(const struct gen_field *f, const struct gen_vec *now,
		       const struct gen_vec *next, enum gen_mutable m, const struct gen_at *at,
		       const struct change *c)
{
	size_t matched = 0;

	for (size_t i = 0; i < next->n; i++) {
		struct gen_at here = { at, NULL, i };
		const void *elem = gen_elem(f, next, i), *old = same_key(f, now, elem);
		int r;

		if (old)
			matched++;
		r = old ? check_object(f->type, old, elem, m, &here, c) : refuse(f, m, &here, c);
		if (r < 0)
			return r;
	}
	return matched == now->n ? 0 : refuse(f, m, at, c);
}

static bool same(const struct gen_type *t, const struct gen_field *f, const void *now,
		 const void *next)
{
	/* A type of this one field would be equal. */
	struct gen_type one = { .fields = f, .n = 1 };

	return gen_when(t, f, now) == gen_when(t, f, next) &&
	       (!gen_when(t, f, now) || gen_equal(&one, now, next));
}

static int check_field(const struct gen_type *t, const struct gen_field *f, const void *now,
		       const void *next, enum gen_mutable inherited, const struct gen_at *at,
		       const struct change *c)
{
	enum gen_mutable m = effective(f, inherited);

	if (f->flags & GEN_F_STATUS || same(t, f, now, next))
		return 0;
	if (f->flags & GEN_F_READONLY || !gen_present(f, now) || !gen_present(f, next) ||
	    !gen_when(t, f, now) || !gen_when(t, f, next))
		return refuse(f, m, at, c);
	if (f->kind == GEN_OBJECT && f->shape == GEN_ONE)
		return check_object(f->type, gen_sub(f, now), gen_sub(f, next), m, at, c);
	if (f->shape == GEN_LIST && f->list_key >= 0)
		return check_keyed(f, gen_ptr(f, now), gen_ptr(f, next), m, at, c);
	return refuse(f, m, at, c);
}

static int check_object(const struct gen_type *t, const void *now, const void *next,
			enum gen_mutable inherited, const struct gen_at *at, const struct change *c)
{
	for (unsigned int i = 0; i < t->n; i++) {
		const struct gen_field *f = &t->fields[i];
		struct gen_at here = { at, f->flags & GEN_F_HIDDEN ? "" : f->name, 0 };
		int r = check_field(t, f, now, next, inherited, &here, c);

		if (r < 0)
			return r;
	}
	return 0;
}

int gen_check_change(const struct gen_type *t, const void *now, const void *next, bool running,
		     struct err **e)
{
	struct gen_at at = { NULL, t->path, 0 };
	struct change c = { running, e };

	return check_object(t, now, next, GEN_ALWAYS, &at, &c);
}

/* ---- trees ---- */

static bool fixed(const struct gen_field *f, enum gen_mutable m)
{
	return f->flags & GEN_F_READONLY || m == GEN_NEVER;
}

static const struct json *find_by_key(const struct json *list, const char *key, const char *value)
{
	for (size_t i = 0; value && i < json_len(list); i++) {
		const char *other = json_str(json_get(json_at(list, i), key));

		if (other && streq(other, value))
			return json_at(list, i);
	}
	return NULL;
}

/* Give `next` the members of `now` that cannot change and that it leaves out; fill: at this level too, else only in
 * the elements of keyed lists, which a merge patch replaces as a whole. */
static int carry(const struct gen_type *t, const struct json *now, struct json *next,
		 enum gen_mutable inherited, bool fill)
{
	for (unsigned int i = 0; i < t->n; i++) {
		const struct gen_field *f = &t->fields[i];
		enum gen_mutable m = effective(f, inherited);
		const struct json *old = json_get(now, f->name);
		struct json *v = json_edit(next, f->name);
		int r = 0;

		if (!old)
			continue;
		if (!v || json_kind(v) == JSON_K_NULL) {
			if (fill && fixed(f, m))
				r = json_set(next, f->name, json_clone(old));
		} else if (f->kind == GEN_OBJECT && f->shape == GEN_ONE &&
			   json_kind(v) == JSON_K_OBJECT) {
			r = carry(f->type, old, v, m, fill);
		} else if (f->shape == GEN_LIST && f->list_key >= 0 &&
			   json_kind(v) == JSON_K_ARRAY) {
			const char *key = f->type->fields[f->list_key].name;

			for (size_t k = 0; r == 0 && k < json_len(v); k++) {
				struct json *elem = (struct json *)json_at(v, k);
				const struct json *was =
					find_by_key(old, key, json_str(json_get(elem, key)));

				if (was)
					r = carry(f->type, was, elem, m, true);
			}
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_revision(const struct gen_type *t, const struct json *now, const struct json *body,
			  struct err **e)
{
	struct gen_at root = { NULL, t->path, 0 };

	for (unsigned int i = 0; i < t->n; i++) {
		const struct gen_field *f = &t->fields[i];
		const struct json *v = json_get(body, f->name);
		struct gen_at here = { &root, f->name, 0 };

		if (!(f->flags & GEN_F_CONFLICT) || json_kind(v) != JSON_K_INT ||
		    !json_get(now, f->name))
			continue;
		if (json_int(v, 0) != json_int(json_get(now, f->name), 0))
			return gen_bad(
				&here, e, EEXIST, "schema.conflict",
				"%lld is not the present one, %lld: somebody changed the object",
				(long long)json_int(v, 0),
				(long long)json_int(json_get(now, f->name), 0));
	}
	return 0;
}

/* now (struct and tree) and the tree of what is to be; checks and parses. */
static int apply(const struct gen_type *t, const void *now, struct json *next, bool running,
		 void *ret, struct err **e)
{
	int r = gen_parse(t, next, NULL, GEN_TRUSTED, ret, e);

	if (r < 0)
		return r;
	r = gen_check_change(t, now, ret, running, e);
	if (r < 0)
		gen_done(t, ret);
	return r;
}

static int no_memory(struct err **e)
{
	return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
}

static const char *status_name(const struct gen_type *t)
{
	for (unsigned int i = 0; i < t->n; i++)
		if (t->fields[i].flags & GEN_F_STATUS)
			return t->fields[i].name;
	return NULL;
}

static int not_an_object(const struct gen_type *t, const struct json *v, struct err **e)
{
	struct gen_at at = { NULL, t->path, 0 };

	return gen_bad(&at, e, EINVAL, "schema.type", "expected an object, got %s",
		       json_kind_name(v));
}

int gen_patch(const struct gen_type *t, const void *now, const struct json *patch, bool running,
	      void *ret, struct err **e)
{
	_cleanup_(json_freep) struct json *tree = gen_to_json(t, now, GEN_SECRETS);
	_cleanup_(json_freep) struct json *ours = json_clone(patch);
	_cleanup_(json_freep) struct json *next = NULL;
	int r;

	memset(ret, 0, t->size);
	if (json_kind(patch) != JSON_K_OBJECT)
		return not_an_object(t, patch, e);
	if (!tree || !ours)
		return no_memory(e);
	if (status_name(t))
		json_remove(ours, status_name(t));
	r = check_revision(t, tree, ours, e);
	if (r < 0)
		return r;
	next = json_merge_patch(tree, ours);
	if (!next || carry(t, tree, next, GEN_ALWAYS, false) < 0)
		return no_memory(e);
	return apply(t, now, next, running, ret, e);
}

int gen_replace(const struct gen_type *t, const void *now, const struct json *whole, bool running,
		void *ret, struct err **e)
{
	_cleanup_(json_freep) struct json *tree = gen_to_json(t, now, GEN_SECRETS);
	_cleanup_(json_freep) struct json *next = json_clone(whole);
	const char *status = status_name(t);
	int r;

	memset(ret, 0, t->size);
	if (json_kind(whole) != JSON_K_OBJECT)
		return not_an_object(t, whole, e);
	if (!tree || !next)
		return no_memory(e);
	r = check_revision(t, tree, next, e);
	if (r < 0)
		return r;
	if (status) {
		json_remove(next, status);
		if (json_get(tree, status) &&
		    json_set(next, status, json_clone(json_get(tree, status))) < 0)
			return no_memory(e);
	}
	if (carry(t, tree, next, GEN_ALWAYS, true) < 0)
		return no_memory(e);
	return apply(t, now, next, running, ret, e);
}
