/* A pull reader for the little XML that OVF needs, and what it finds. */
#include "image/ovf.h"

#include <ctype.h>
#include "base/checked.h"
#include "base/str.h"

#define TEXT_MAX  (4 * MIB)
#define DEPTH_MAX 64
#define FILES_MAX 256

struct xml {
	const char *p, *end;
	char name[64];		 /* local name, without prefix */
	bool open, close, empty; /* of the last tag */
	const char *attrs, *attrs_end;
	int depth;
};

static bool skip_past(struct xml *x, const char *what)
{
	const char *q = memmem(x->p, (size_t)(x->end - x->p), what, strlen(what));

	if (!q)
		return false;
	x->p = q + strlen(what);
	return true;
}

/* The next tag; text before it in *text, *tlen.  1, 0 at the end, -EBADMSG. */
static int next_tag(struct xml *x, const char **text, size_t *tlen)
{
	const char *start, *colon = NULL, *name;
	size_t n;

	for (;;) {
		start = x->p;
		x->p = memchr(x->p, '<', (size_t)(x->end - x->p));
		if (!x->p)
			return x->depth ? -EBADMSG : 0;
		*text = start;
		*tlen = (size_t)(x->p - start);
		if (x->end - x->p >= 4 && memcmp(x->p, "<!--", 4) == 0) {
			if (!skip_past(x, "-->"))
				return -EBADMSG;
		} else if (x->end - x->p >= 2 && x->p[1] == '?') {
			if (!skip_past(x, "?>"))
				return -EBADMSG;
		} else if (x->end - x->p >= 2 && x->p[1] == '!') {
			return -EBADMSG; /* DTD, CDATA: nothing that a descriptor needs */
		} else {
			break;
		}
	}
	x->p++;
	x->close = x->p < x->end && *x->p == '/';
	x->p += x->close;
	x->open = !x->close;
	name = x->p;
	while (x->p < x->end && !strchr(" \t\r\n/>", *x->p)) {
		if (*x->p == ':')
			colon = x->p;
		x->p++;
	}
	if (colon)
		name = colon + 1;
	n = (size_t)(x->p - name);
	if (n == 0 || n >= sizeof(x->name))
		return -EBADMSG;
	memcpy(x->name, name, n);
	x->name[n] = '\0';
	x->attrs = x->p;
	for (char quote = 0; x->p < x->end && (quote || *x->p != '>');
	     x->p++) { /* '>' may stand in a value */
		if (quote ? *x->p == quote : *x->p == '"' || *x->p == '\'')
			quote = quote ? 0 : *x->p;
	}
	if (x->p >= x->end)
		return -EBADMSG;
	x->attrs_end = x->p;
	x->empty = x->p > x->attrs && x->p[-1] == '/';
	x->p++;
	x->depth += x->open && !x->empty;
	x->depth -= x->close;
	return x->depth < 0 || x->depth > DEPTH_MAX ? -EBADMSG : 1;
}

/* Text without leading and trailing blanks, the five entities resolved; false: too long or malformed. */
static bool plain(const char *s, size_t n, char *out, size_t len)
{
	static const struct {
		const char *name;
		char c;
	} entities[] = {
		{ "&amp;", '&' },  { "&lt;", '<' },    { "&gt;", '>' },
		{ "&quot;", '"' }, { "&apos;", '\'' },
	};
	size_t o = 0;

	while (n && isspace((unsigned char)*s)) {
		s++;
		n--;
	}
	while (n && isspace((unsigned char)s[n - 1]))
		n--;
	while (n) {
		size_t take = 1;
		char c = *s;

		if (c == '\0')
			return false;
		if (c == '&') {
			size_t i = 0;

			for (; i < ARRAY_SIZE(entities); i++) {
				take = strlen(entities[i].name);
				if (n >= take && memcmp(s, entities[i].name, take) == 0)
					break;
			}
			if (i == ARRAY_SIZE(entities))
				return false;
			c = entities[i].c;
		}
		if (o + 1 >= len)
			return false;
		out[o++] = c;
		s += take;
		n -= take;
	}
	out[o] = '\0';
	return utf8_valid(out);
}

/* Attribute by local name. */
static bool attribute(const struct xml *x, const char *want, char *out, size_t len)
{
	const char *p = x->attrs;

	while (p < x->attrs_end) {
		const char *name, *eq, *v;
		char quote;

		while (p < x->attrs_end && (isspace((unsigned char)*p) || *p == '/'))
			p++;
		name = p;
		eq = memchr(p, '=', (size_t)(x->attrs_end - p));
		if (!eq)
			return false;
		for (const char *q = name; q < eq; q++) {
			if (*q == ':')
				name = q + 1;
		}
		v = eq + 1;
		while (v < x->attrs_end && isspace((unsigned char)*v))
			v++;
		if (v >= x->attrs_end || (*v != '"' && *v != '\''))
			return false;
		quote = *v++;
		p = memchr(v, quote, (size_t)(x->attrs_end - v));
		if (!p)
			return false;
		if ((size_t)(eq - name) == strlen(want) && memcmp(name, want, strlen(want)) == 0)
			return plain(v, (size_t)(p - v), out, len);
		p++;
	}
	return false;
}

/* "byte * 2^20", "MegaBytes", "": what a number is multiplied with (DSP0004, C.1). */
static int unit(const char *s, uint64_t *ret)
{
	const char *caret = strstr(s, "2^");
	uint64_t bits;

	*ret = 1;
	if (!*s || streq(s, "byte") || streq(s, "bytes"))
		return 0;
	if (caret) {
		if (parse_u64(caret + 2, 50, &bits) < 0)
			return -EINVAL;
		*ret = (uint64_t)1 << bits;
		return 0;
	}
	switch (tolower((unsigned char)*s)) {
	case 'k':
		*ret = KIB;
		return 0;
	case 'm':
		*ret = MIB;
		return 0;
	case 'g':
		*ret = GIB;
		return 0;
	default:
		return -EINVAL;
	}
}

static int scaled(const char *number, const char *units, uint64_t *ret)
{
	uint64_t n, u;

	if (parse_u64(number, UINT64_MAX, &n) < 0 || unit(units, &u) < 0 || mul_of(n, u, ret))
		return -EINVAL;
	return 0;
}

struct files {
	struct {
		char id[128], href[256];
	} v[FILES_MAX];
	size_t n;
};

static int add_file(const struct xml *x, struct files *f, struct err **e)
{
	if (f->n == FILES_MAX)
		return err_set(e, EFBIG, "image.ovf", "more than %d files", FILES_MAX);
	if (!attribute(x, "id", f->v[f->n].id, sizeof(f->v[f->n].id)) ||
	    !attribute(x, "href", f->v[f->n].href, sizeof(f->v[f->n].href)))
		return err_set(e, EBADMSG, "image.ovf", "a file without id or name");
	if (strchr(f->v[f->n].href, '/') || f->v[f->n].href[0] == '.' || !f->v[f->n].href[0])
		return err_set(e, EBADMSG, "image.ovf",
			       "the file '%s' is not beside the descriptor", f->v[f->n].href);
	f->n++;
	return 0;
}

static int add_disk(const struct xml *x, const struct files *f, struct ovf *o, struct err **e)
{
	struct ovf_disk *d = &o->disks[o->n_disks];
	char ref[128], capacity[64], units[64] = "";

	if (!attribute(x, "fileRef", ref, sizeof(ref)))
		return 0; /* an empty disk */
	if (o->n_disks == OVF_DISKS_MAX)
		return err_set(e, EFBIG, "image.ovf", "more than %d disks", OVF_DISKS_MAX);
	attribute(x, "capacityAllocationUnits", units, sizeof(units));
	if (!attribute(x, "capacity", capacity, sizeof(capacity)) ||
	    scaled(capacity, units, &d->capacity) < 0)
		return err_set(e, EBADMSG, "image.ovf", "disk '%s' has no readable capacity", ref);
	for (size_t i = 0; i < f->n; i++) {
		if (streq(f->v[i].id, ref)) {
			strcpy(d->file, f->v[i].href);
			o->n_disks++;
			return 0;
		}
	}
	return err_set(e, EBADMSG, "image.ovf", "disk '%s' names no file", ref);
}

struct item { /* of VirtualHardwareSection: children in any order */
	bool in;
	char type[16], quantity[32], units[64];
};

static int end_item(const struct item *it, struct ovf *o, struct err **e)
{
	uint64_t n;

	if (streq(it->type, "3") && it->quantity[0]) {
		if (parse_u64(it->quantity, 4096, &o->cpus) < 0)
			return err_set(e, EBADMSG, "image.ovf", "'%s' is no number of CPUs",
				       it->quantity);
	} else if (streq(it->type, "4") && it->quantity[0]) {
		if (scaled(it->quantity, it->units[0] ? it->units : "MegaBytes", &n) < 0)
			return err_set(e, EBADMSG, "image.ovf", "'%s' is no size of memory",
				       it->quantity);
		o->memory = n;
	} else if (streq(it->type, "10")) {
		o->nics++;
	}
	return 0;
}

static int tag(struct xml *x, const char *text, size_t tlen, struct files *f, struct item *it,
	       struct ovf *o, struct err **e)
{
	bool start = x->open;

	if (start && streq(x->name, "File"))
		return add_file(x, f, e);
	if (start && streq(x->name, "Disk"))
		return add_disk(x, f, o, e);
	if (start && streq(x->name, "VirtualSystem") && !o->name[0])
		attribute(x, "id", o->name, sizeof(o->name));
	if (streq(x->name, "Item")) {
		int r = x->close && it->in ? end_item(it, o, e) : 0;

		*it = (struct item){ .in = start && !x->empty };
		return r;
	}
	if (x->close && it->in) {
		if (streq(x->name, "ResourceType"))
			plain(text, tlen, it->type, sizeof(it->type));
		else if (streq(x->name, "VirtualQuantity"))
			plain(text, tlen, it->quantity, sizeof(it->quantity));
		else if (streq(x->name, "AllocationUnits"))
			plain(text, tlen, it->units, sizeof(it->units));
	}
	return 0;
}

int ovf_parse(const char *text, size_t len, struct ovf *ret, struct err **e)
{
	struct files *f = calloc(1, sizeof(*f));
	struct ovf *o = calloc(1, sizeof(*o));
	struct xml x = { .p = text, .end = text + len };
	struct item it = { 0 };
	const char *t;
	size_t n;
	bool envelope = false;
	int r = f && o ? 0 : err_sys(e, ENOMEM, "read OVF");

	if (r == 0 && len > TEXT_MAX)
		r = err_set(e, EFBIG, "image.ovf", "the descriptor has %zu bytes", len);
	while (r == 0 && (r = next_tag(&x, &t, &n)) == 1) {
		envelope |= streq(x.name, "Envelope");
		r = tag(&x, t, n, f, &it, o, e);
	}
	if (r == -EBADMSG && e && !*e)
		err_set(e, EBADMSG, "image.ovf",
			"the descriptor is no well-formed XML near byte %zu",
			(size_t)((x.p ? x.p : x.end) - text));
	if (r == 0 && !envelope)
		r = err_set(e, EBADMSG, "image.ovf", "this is no OVF descriptor");
	if (r == 0)
		*ret = *o;
	free(o);
	free(f);
	return r;
}
