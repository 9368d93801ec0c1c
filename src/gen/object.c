/* The life of objects: defaults, release, copies, comparison; maps and lists. */
#include "gen/object_int.h"

static int out_of_memory(const struct gen_type *t, void *obj)
{
	gen_done(t, obj);
	return -ENOMEM;
}

size_t gen_elem_size(const struct gen_field *f)
{
	switch ((enum gen_kind)f->kind) {
	case GEN_BOOL:
		return sizeof(bool);
	case GEN_ENUM:
		return sizeof(int);
	case GEN_OBJECT:
		return f->type->size;
	case GEN_STRING:
	case GEN_SECRET:
	case GEN_ANY:
		return sizeof(void *);
	default:
		return sizeof(uint64_t);
	}
}

bool gen_present(const struct gen_field *f, const void *obj)
{
	const bool *has = gen_has(f, obj);

	if (has)
		return *has;
	if (f->shape != GEN_ONE)
		return ((struct gen_vec *)gen_ptr(f, obj))->n > 0;
	if (f->kind == GEN_STRING || f->kind == GEN_SECRET || f->kind == GEN_ANY ||
	    f->flags & GEN_F_POINTER)
		return *(void **)gen_ptr(f, obj) != NULL;
	return true;
}

bool gen_when(const struct gen_type *t, const struct gen_field *f, const void *obj)
{
	const struct gen_field *cond;

	if (f->when < 0)
		return true;
	cond = &t->fields[f->when];
	if (cond->kind == GEN_BOOL)
		return *(bool *)gen_ptr(cond, obj) == (f->when_value != 0);
	return *(int *)gen_ptr(cond, obj) == f->when_value;
}

/* ---- defaults ---- */

static int init_field(const struct gen_field *f, void *obj)
{
	void *p = gen_ptr(f, obj);

	if (f->shape != GEN_ONE || f->flags & GEN_F_POINTER)
		return 0;
	if (f->kind == GEN_OBJECT)
		return gen_init(f->type, p);
	if (!(f->flags & GEN_F_DEFAULT))
		return 0;
	switch ((enum gen_kind)f->kind) {
	case GEN_BOOL:
		*(bool *)p = f->def != 0;
		return 0;
	case GEN_ENUM:
		*(int *)p = (int)f->def;
		return 0;
	case GEN_REAL:
		*(double *)p = f->rdef;
		return 0;
	case GEN_STRING:
	case GEN_SECRET:
		*(char **)p = strdup(f->sdef);
		return *(char **)p ? 0 : -ENOMEM;
	case GEN_ANY:
	case GEN_OBJECT:
		return 0;
	default:
		*(int64_t *)p = f->def;
		return 0;
	}
}

int gen_init(const struct gen_type *t, void *obj)
{
	memset(obj, 0, t->size);
	for (unsigned int i = 0; i < t->n; i++)
		if (init_field(&t->fields[i], obj) < 0)
			return out_of_memory(t, obj);
	return 0;
}

/* ---- release ---- */

void gen_done_value(const struct gen_field *f, void *val)
{
	char **s = val;

	switch ((enum gen_kind)f->kind) {
	case GEN_SECRET:
		if (*s)
			mem_wipe(*s, strlen(*s));
		_fallthrough_;
	case GEN_STRING:
		free(*s);
		*s = NULL;
		break;
	case GEN_ANY:
		json_free(*(struct json **)val);
		*(struct json **)val = NULL;
		break;
	case GEN_OBJECT:
		gen_done(f->type, val);
		break;
	default:
		break;
	}
}

static void done_field(const struct gen_field *f, void *obj)
{
	void *p = gen_ptr(f, obj);
	struct gen_vec *v = p;

	if (f->shape == GEN_LIST) {
		for (size_t i = 0; i < v->n; i++)
			gen_done_value(f, gen_elem(f, v, i));
		free(v->v);
	} else if (f->shape == GEN_MAP) {
		struct gen_map *m = p;

		for (size_t i = 0; i < m->n; i++) {
			free(m->v[i].key);
			free(m->v[i].value);
		}
		free(m->v);
	} else if (f->flags & GEN_F_POINTER) {
		void *sub = *(void **)p;

		if (sub)
			gen_done(f->type, sub);
		free(sub);
	} else {
		gen_done_value(f, p);
	}
}

void gen_done(const struct gen_type *t, void *obj)
{
	for (unsigned int i = 0; i < t->n; i++)
		done_field(&t->fields[i], obj);
	memset(obj, 0, t->size);
}

/* ---- copies ---- */

static int copy_value(const struct gen_field *f, const void *val, void *ret)
{
	const char *s;

	switch ((enum gen_kind)f->kind) {
	case GEN_STRING:
	case GEN_SECRET:
		s = *(char *const *)val;
		*(char **)ret = s ? strdup(s) : NULL;
		return s && !*(char **)ret ? -ENOMEM : 0;
	case GEN_ANY:
		*(struct json **)ret = json_ref(*(struct json *const *)val);
		return 0;
	case GEN_OBJECT:
		return gen_copy(f->type, val, ret);
	default:
		memcpy(ret, val, gen_elem_size(f));
		return 0;
	}
}

static int copy_list(const struct gen_field *f, const struct gen_vec *from, struct gen_vec *to)
{
	if (from->n == 0)
		return 0;
	to->v = calloc(from->n, gen_elem_size(f));
	if (!to->v)
		return -ENOMEM;
	to->cap = from->n;
	for (; to->n < from->n; to->n++)
		if (copy_value(f, gen_elem(f, from, to->n), gen_elem(f, to, to->n)) < 0)
			return -ENOMEM;
	return 0;
}

static int copy_field(const struct gen_field *f, const void *obj, void *ret)
{
	const void *from = gen_ptr(f, obj);
	void *to = gen_ptr(f, ret);
	const void *sub;

	if (gen_has(f, obj))
		*gen_has(f, ret) = *gen_has(f, obj);
	if (f->shape == GEN_LIST)
		return copy_list(f, from, to);
	if (f->shape == GEN_MAP) {
		const struct gen_map *m = from;

		for (size_t i = 0; i < m->n; i++)
			if (gen_map_set(to, m->v[i].key, m->v[i].value) < 0)
				return -ENOMEM;
		return 0;
	}
	if (!(f->flags & GEN_F_POINTER))
		return copy_value(f, from, to);
	sub = *(void *const *)from;
	if (!sub)
		return 0;
	*(void **)to = calloc(1, f->type->size);
	return *(void **)to ? gen_copy(f->type, sub, *(void **)to) : -ENOMEM;
}

int gen_copy(const struct gen_type *t, const void *obj, void *ret)
{
	memset(ret, 0, t->size);
	for (unsigned int i = 0; i < t->n; i++)
		if (copy_field(&t->fields[i], obj, ret) < 0)
			return out_of_memory(t, ret);
	return 0;
}

/* ---- comparison ---- */

bool gen_equal_value(const struct gen_field *f, const void *a, const void *b)
{
	const char *s, *t;

	switch ((enum gen_kind)f->kind) {
	case GEN_STRING:
	case GEN_SECRET:
		s = *(char *const *)a;
		t = *(char *const *)b;
		return s && t ? streq(s, t) : s == t;
	case GEN_ANY:
		if (!*(void *const *)a || !*(void *const *)b)
			return *(void *const *)a == *(void *const *)b;
		return json_same(*(struct json *const *)a, *(struct json *const *)b);
	case GEN_OBJECT:
		return gen_equal(f->type, a, b);
	case GEN_REAL:
		return *(const double *)a == *(const double *)b;
	default:
		return memcmp(a, b, gen_elem_size(f)) == 0;
	}
}

static bool equal_maps(const struct gen_map *a, const struct gen_map *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++) {
		const char *v = gen_map_get(b, a->v[i].key);

		if (!v || !streq(v, a->v[i].value))
			return false;
	}
	return true;
}

static bool equal_field(const struct gen_field *f, const void *a, const void *b)
{
	const struct gen_vec *u = gen_ptr(f, a), *v = gen_ptr(f, b);

	if (gen_present(f, a) != gen_present(f, b))
		return false;
	if (!gen_present(f, a))
		return true;
	if (f->shape == GEN_MAP)
		return equal_maps(gen_ptr(f, a), gen_ptr(f, b));
	if (f->shape == GEN_ONE)
		return f->kind == GEN_OBJECT ? gen_equal(f->type, gen_sub(f, a), gen_sub(f, b))
					     : gen_equal_value(f, u, v);
	if (u->n != v->n)
		return false;
	for (size_t i = 0; i < u->n; i++)
		if (!gen_equal_value(f, gen_elem(f, u, i), gen_elem(f, v, i)))
			return false;
	return true;
}

bool gen_equal(const struct gen_type *t, const void *a, const void *b)
{
	for (unsigned int i = 0; i < t->n; i++)
		if (!equal_field(&t->fields[i], a, b))
			return false;
	return true;
}

/* ---- lists and maps ---- */

void *gen_list_add(const struct gen_type *elem, struct gen_vec *list)
{
	void *p;

	if (vec_grow_(&list->v, &list->cap, list->n + 1, elem->size) < 0)
		return NULL;
	p = (char *)list->v + list->n * elem->size;
	if (gen_init(elem, p) < 0)
		return NULL;
	list->n++;
	return p;
}

const char *gen_map_get(const struct gen_map *m, const char *key)
{
	for (size_t i = 0; i < m->n; i++)
		if (streq(m->v[i].key, key))
			return m->v[i].value;
	return NULL;
}

int gen_map_set(struct gen_map *m, const char *key, const char *value)
{
	_cleanup_(freep) char *k = NULL;
	_cleanup_(freep) char *v = strdup(value);
	int r;

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < m->n; i++) {
		if (streq(m->v[i].key, key)) {
			free(m->v[i].value);
			m->v[i].value = TAKE(v);
			return 0;
		}
	}
	k = strdup(key);
	if (!k)
		return -ENOMEM;
	r = vec_push(m, (struct gen_pair){ k, v });
	if (r == 0) {
		TAKE(k);
		TAKE(v);
	}
	return r;
}

int gen_map_remove(struct gen_map *m, const char *key)
{
	for (size_t i = 0; i < m->n; i++) {
		if (streq(m->v[i].key, key)) {
			free(m->v[i].key);
			free(m->v[i].value);
			vec_remove(m, i);
			return 0;
		}
	}
	return -ENOENT;
}
