/* Valid objects at random, from the tables. */
#include "random_object.h"

#include <arpa/inet.h>
#include <assert.h>
#include "base/str.h"
#include "gen/object_int.h"

static bool chance(struct prng *r, unsigned int percent)
{
	return prng_below(r, 100) < percent;
}

/* A walk through the automaton: any live byte while there is room, then straight to an accepting state. */
static char *walk_automaton(const struct gen_format *f, struct prng *r, size_t max)
{
	uint8_t reach[256]; /* steps from a state to an accepting one, plus one; 0: unknown yet */
	unsigned int n_states = 2, state = 1;
	char *s = calloc(1, max + 1);
	size_t want = prng_below(r, MIN(max, (size_t)24) + 1), n = 0;

	memset(reach, 0, sizeof(reach));
	for (unsigned int i = 0; i < n_states * f->n_classes; i++)
		n_states = MAX(n_states, f->next[i] + 1U);
	for (unsigned int i = 1; i < n_states; i++)
		reach[i] = f->accept[i] ? 1 : 0;
	for (bool again = true; again;) {
		again = false;
		for (unsigned int i = 1; i < n_states; i++)
			for (unsigned int c = 0; c < f->n_classes; c++) {
				uint8_t via = reach[f->next[i * f->n_classes + c]];

				if (via && (!reach[i] || via + 1 < reach[i])) {
					reach[i] = (uint8_t)(via + 1);
					again = true;
				}
			}
	}
	while (n < max && !(f->accept[state] && n >= want)) {
		bool home = n >= want || n + reach[state] >= max;
		uint8_t c = (uint8_t)(0x20 + prng_below(r, 0x5f));
		unsigned int to = f->next[state * f->n_classes + f->classes[c]];

		if (!to || (home && reach[to] >= reach[state])) {
			if (f->accept[state] && chance(r, 5))
				break;
			continue;
		}
		s[n++] = (char)c;
		state = to;
	}
	assert(f->accept[state]);
	return s;
}

static char *random_address(const char *format, struct prng *r)
{
	bool v6 = strchr(format, '6') || (!strchr(format, '4') && chance(r, 50));
	bool net = str_starts(format, "cidr");
	unsigned int bits = v6 ? 128 : 32, len = (unsigned int)prng_below(r, bits + 1);
	char text[INET6_ADDRSTRLEN], *s;
	uint8_t addr[16];

	for (unsigned int i = 0; i < bits; i++) {
		addr[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
		if ((!net || i < len) && chance(r, 50))
			addr[i / 8] |= (uint8_t)(0x80 >> i % 8);
	}
	inet_ntop(v6 ? AF_INET6 : AF_INET, addr, text, sizeof(text));
	if (!net)
		return strdup(text);
	if (asprintf(&s, "%s/%u", text, len) < 0)
		return NULL;
	return s;
}

char *random_format(const struct gen_format *f, struct prng *r, size_t max)
{
	return f->check ? random_address(f->name, r)
			: walk_automaton(f, r, MIN(max, (size_t)f->max_len));
}

static char *random_text(const struct gen_field *f, struct prng *r, bool use_format)
{
	static const char *const pieces[] = { "a",
					      "Z",
					      "0",
					      " ",
					      "\n",
					      "\"",
					      "\\",
					      "/",
					      "\t",
					      "\x01",
					      "\xc3\xa4",
					      "\xe2\x82\xac",
					      "\xf0\x9f\x98\x80",
					      "x",
					      "=",
					      "," };
	_cleanup_(buf_done) struct buf b = { 0 };
	size_t n = f->min_len + prng_below(r, MIN(f->max_len - f->min_len, 40U) + 1);

	if (f->format && use_format)
		return random_format(f->format, r, f->max_len);
	buf_adds(&b, "");
	while (n-- > 0)
		buf_adds(&b, pieces[prng_below(r, ARRAY_SIZE(pieces))]);
	return strdup(buf_str(&b));
}

static int64_t random_number(const struct gen_field *f, struct prng *r, int64_t low, int64_t high)
{
	uint64_t span;

	if (f->flags & GEN_F_MIN)
		low = MAX(low, f->min);
	if (f->flags & GEN_F_MAX)
		high = MIN(high, f->max);
	if (chance(r, 10))
		return low;
	if (chance(r, 10))
		return high;
	span = (uint64_t)high - (uint64_t)low;
	return low + (int64_t)(chance(r, 50)	    ? prng_below(r, MIN(span, (uint64_t)1000) + 1)
			       : span == UINT64_MAX ? prng_next(r)
						    : prng_below(r, span + 1));
}

static void random_value(const struct gen_field *f, struct prng *r, void *val)
{
	switch ((enum gen_kind)f->kind) {
	case GEN_BOOL:
		*(bool *)val = chance(r, 50);
		break;
	case GEN_INT:
		*(int64_t *)val = random_number(f, r, INT64_MIN, INT64_MAX);
		break;
	case GEN_UINT:
	case GEN_SIZE:
	case GEN_BITRATE:
	case GEN_DURATION:
		*(int64_t *)val = random_number(f, r, 0, INT64_MAX);
		break;
	case GEN_TIME: /* up to the year 2200, whole milliseconds */
		*(nsec_t *)val = (nsec_t)prng_below(r, 7258118400000) * NSEC_PER_MSEC;
		break;
	case GEN_REAL:
		*(double *)val =
			f->rmin + (double)prng_below(r, 1 << 30) / (1 << 30) *
					  ((f->flags & GEN_F_MAX ? f->rmax : 1e6) - f->rmin);
		break;
	case GEN_STRING:
	case GEN_SECRET:
		*(char **)val = random_text(f, r, true);
		break;
	case GEN_ENUM:
		*(int *)val = (int)prng_below(r, f->values->n);
		break;
	case GEN_ANY:
		*(struct json **)val = json_new_obj();
		json_set(*(struct json **)val, "any", json_new_int((int64_t)prng_below(r, 100)));
		break;
	case GEN_OBJECT:
		random_object(f->type, r, val);
		break;
	}
}

/* Keys of elements must differ. */
static void distinct_keys(const struct gen_field *f, struct gen_vec *v)
{
	const struct gen_field *key = &f->type->fields[f->list_key];

	for (size_t i = 0; i < v->n; i++) {
		char **s = gen_ptr(key, gen_elem(f, v, i));

		for (size_t k = 0; *s && k < i; k++) {
			const char *other = *(char **)gen_ptr(key, gen_elem(f, v, k));

			if (!other || !streq(*s, other))
				continue;
			if (key->flags & GEN_F_REQUIRED) { /* drop the element */
				gen_done(f->type, gen_elem(f, v, i));
				v->n--;
				memmove(gen_elem(f, v, i), gen_elem(f, v, i + 1),
					(v->n - i) * gen_elem_size(f));
				i--;
			} else {
				free(*s);
				*s = NULL;
			}
			break;
		}
	}
}

static void random_list(const struct gen_field *f, struct prng *r, struct gen_vec *v)
{
	size_t n = MIN(f->min_items + prng_below(r, 4), (uint64_t)f->max_items);

	v->v = calloc(n + 1, gen_elem_size(f));
	v->cap = n + 1;
	for (; v->n < n; v->n++)
		random_value(f, r, gen_elem(f, v, v->n));
	if (f->list_key >= 0)
		distinct_keys(f, v);
}

static void random_map(const struct gen_field *f, struct prng *r, struct gen_map *m)
{
	for (size_t n = prng_below(r, 4); n > 0; n--) {
		_cleanup_(freep) char *key = f->format ? random_format(f->format, r, 30)
						       : strdup("a key");
		_cleanup_(freep) char *value = random_text(f, r, false);

		gen_map_set(m, key, value);
	}
}

/* Bring a number within the bounds that siblings set. */
static void keep_bounds(const struct gen_type *t, void *obj)
{
	for (unsigned int i = 0; i < t->n; i++) {
		const struct gen_field *f = &t->fields[i];

		if ((f->at_most < 0 && f->at_least < 0) || !gen_present(f, obj))
			continue;
		for (int k = 0; k < 2; k++) {
			int other = k ? f->at_least : f->at_most;
			const struct gen_field *bound = other < 0 ? NULL : &t->fields[other];
			int64_t *v = gen_ptr(f, obj), b;

			if (!bound || !gen_present(bound, obj))
				continue;
			b = *(int64_t *)gen_ptr(bound, obj);
			if (k ? *v < b : *v > b)
				*v = b;
		}
	}
}

void random_object(const struct gen_type *t, struct prng *r, void *ret)
{
	gen_init(t, ret);
	for (unsigned int i = 0; i < t->n; i++) {
		const struct gen_field *f = &t->fields[i];
		void *p = gen_ptr(f, ret);

		if (!gen_when(t, f, ret) || !(f->flags & GEN_F_REQUIRED || chance(r, 60)))
			continue;
		if (gen_has(f, ret))
			*gen_has(f, ret) = true;
		if (f->shape == GEN_LIST) {
			random_list(f, r, p);
		} else if (f->shape == GEN_MAP) {
			random_map(f, r, p);
		} else if (f->flags & GEN_F_POINTER) {
			*(void **)p = calloc(1, f->type->size);
			random_object(f->type, r, *(void **)p);
		} else {
			gen_done_value(f, p);
			random_value(f, r, p);
		}
	}
	keep_bounds(t, ret);
}
