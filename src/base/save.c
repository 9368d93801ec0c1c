/* Saved state by field tables; see save.h for the format. */
#include "base/save.h"

#include <string.h>
#include "base/checked.h"
#include "base/crc.h"
#include "base/str.h"

#define MAGIC	      "STRATASV"
#define FORMAT	      1U
#define FLAG_REQUIRED 1U
#define NESTING_MAX   8

static void put_u32(struct buf *out, uint32_t v)
{
	v = htole32(v);
	buf_add(out, &v, sizeof(v));
}

/* A reader that cannot run past its end. */
struct cursor {
	const uint8_t *p;
	size_t left;
};

static int take(struct cursor *c, void *out, size_t n)
{
	if (n > c->left)
		return -EINVAL;
	memcpy(out, c->p, n);
	c->p += n;
	c->left -= n;
	return 0;
}

static int take_u32(struct cursor *c, uint32_t *ret)
{
	uint32_t v;

	if (take(c, &v, sizeof(v)) < 0)
		return -EINVAL;
	*ret = le32toh(v);
	return 0;
}

/* -- fields --------------------------------------------------------------------------------------- */

static void put_number(struct buf *out, const void *p, size_t size)
{
	uint64_t v = 0;

	switch (size) {
	case 1:
		v = *(const uint8_t *)p;
		break;
	case 2:
		v = *(const uint16_t *)p;
		break;
	case 4:
		v = *(const uint32_t *)p;
		break;
	case 8:
		v = *(const uint64_t *)p;
		break;
	}
	v = htole64(v);
	buf_add(out, &v, size);
}

static int take_number(struct cursor *c, void *p, size_t size)
{
	uint64_t v = 0;

	if (take(c, &v, size) < 0)
		return -EINVAL;
	v = le64toh(v);
	switch (size) {
	case 1:
		*(uint8_t *)p = (uint8_t)v;
		return 0;
	case 2:
		*(uint16_t *)p = (uint16_t)v;
		return 0;
	case 4:
		*(uint32_t *)p = (uint32_t)v;
		return 0;
	case 8:
		*(uint64_t *)p = v;
		return 0;
	}
	return -EINVAL;
}

static int save_one(const struct save_field *f, void *p, struct buf *out, struct err **e)
{
	switch (f->kind) {
	case SAVE_BOOL:
		buf_addc(out, *(bool *)p ? 1 : 0);
		break;
	case SAVE_U8:
	case SAVE_U16:
	case SAVE_U32:
	case SAVE_U64:
		put_number(out, p, f->size);
		break;
	case SAVE_BYTES:
		buf_add(out, p, f->size);
		break;
	case SAVE_BLOB: {
		const struct save_blob *b = p;

		if (b->len > f->max)
			return err_set(e, EOVERFLOW, "save.blob", "%s: %u bytes, at most %u",
				       f->name, b->len, f->max);
		put_u32(out, b->len);
		buf_add(out, b->data, b->len);
		break;
	}
	case SAVE_STRUCT:
		put_u32(out, f->nested->version);
		return save_fields(f->nested, p, out, e);
	}
	return 0;
}

int save_fields(const struct save_desc *d, void *obj, struct buf *out, struct err **e)
{
	if (d->before_save)
		d->before_save(obj);
	for (size_t i = 0; i < d->n_fields; i++) {
		const struct save_field *f = &d->fields[i];

		for (uint32_t k = 0; k < f->count; k++) {
			int r = save_one(f, (char *)obj + f->offset + k * f->size, out, e);

			if (r < 0)
				return err_wrap(e, r, "save %s", d->name);
		}
	}
	return buf_error(out) ? err_sys(e, ENOMEM, "save %s", d->name) : 0;
}

static int load_all(const struct save_desc *d, void *obj, uint32_t version, struct cursor *c,
		    int depth, struct err **e);

static int load_one(const struct save_field *f, void *p, struct cursor *c, int depth,
		    struct err **e)
{
	uint8_t flag;
	uint32_t n;

	switch (f->kind) {
	case SAVE_BOOL:
		if (take(c, &flag, 1) < 0 || flag > 1)
			return -EINVAL;
		*(bool *)p = flag;
		return 0;
	case SAVE_U8:
	case SAVE_U16:
	case SAVE_U32:
	case SAVE_U64:
		return take_number(c, p, f->size);
	case SAVE_BYTES:
		return take(c, p, f->size);
	case SAVE_BLOB: {
		struct save_blob *b = p;

		if (take_u32(c, &n) < 0 || n > f->max || n > c->left)
			return -EINVAL;
		free(b->data);
		b->len = 0;
		b->data = malloc(n ? n : 1);
		if (!b->data)
			return -ENOMEM;
		b->len = n;
		return take(c, b->data, n);
	}
	case SAVE_STRUCT:
		if (take_u32(c, &n) < 0)
			return -EINVAL;
		return load_all(f->nested, p, n, c, depth + 1, e);
	}
	return -EINVAL;
}

static int load_all(const struct save_desc *d, void *obj, uint32_t version, struct cursor *c,
		    int depth, struct err **e)
{
	if (version < d->min_version || version > d->version)
		return err_set(e, ENOTSUP, "save.version",
			       "%s: version %u, this release reads %u to %u", d->name, version,
			       d->min_version, d->version);
	if (depth > NESTING_MAX)
		return err_set(e, EINVAL, "save.depth", "%s: nested too deeply", d->name);
	for (size_t i = 0; i < d->n_fields; i++) {
		const struct save_field *f = &d->fields[i];

		if (f->since > version)
			continue;
		for (uint32_t k = 0; k < f->count; k++) {
			int r = load_one(f, (char *)obj + f->offset + k * f->size, c, depth, e);

			if (r == -EINVAL && (!e || !*e))
				return err_set(e, EINVAL, "save.field",
					       "%s.%s: cut short or out of range", d->name,
					       f->name);
			if (r < 0)
				return err_wrap(e, r, "%s.%s", d->name, f->name);
		}
	}
	return d->after_load ? d->after_load(obj, version, e) : 0;
}

int load_fields(const struct save_desc *d, void *obj, uint32_t version, const void *data,
		size_t len, struct err **e)
{
	struct cursor c = { .p = data, .left = len };
	int r = load_all(d, obj, version, &c, 0, e);

	if (r == 0 && c.left)
		return err_set(e, EINVAL, "save.length", "%s: %zu bytes too many", d->name, c.left);
	return r;
}

/* -- streams -------------------------------------------------------------------------------------- */

static int put_name(struct buf *out, const char *s, struct err **e)
{
	size_t n = strlen(s);

	if (n > 255)
		return err_set(e, EINVAL, "save.name", "'%.32s...' is longer than 255 bytes", s);
	buf_addc(out, (char)n);
	buf_add(out, s, n);
	return 0;
}

static void put_arch(const char *arch, char out[8])
{
	memset(out, 0, 8);
	memcpy(out, arch, strnlen(arch, 8));
}

int save_begin(struct buf *out, const char *arch, struct err **e)
{
	char a[8];

	put_arch(arch, a);
	buf_add(out, MAGIC, 8);
	put_u32(out, FORMAT);
	buf_add(out, a, 8);
	return buf_error(out) ? err_sys(e, ENOMEM, "save") : 0;
}

int save_section(struct buf *out, const char *id, const struct save_desc *d, void *obj,
		 struct err **e)
{
	uint32_t len;
	size_t at;
	int r;

	r = put_name(out, id, e);
	if (r == 0)
		r = put_name(out, d->name, e);
	if (r < 0)
		return r;
	put_u32(out, d->optional ? 0 : FLAG_REQUIRED);
	put_u32(out, d->version);
	at = out->len;
	put_u32(out, 0);
	r = save_fields(d, obj, out, e);
	if (r < 0)
		return err_wrap(e, r, "%s", id);
	if (out->len - at - 4 > UINT32_MAX)
		return err_set(e, EOVERFLOW, "save.length", "%s: larger than 4 GiB", id);
	len = htole32((uint32_t)(out->len - at - 4));
	memcpy(out->s + at, &len, sizeof(len));
	return 0;
}

int save_end(struct buf *out, struct err **e)
{
	/* the end section: empty id, name "end", its payload the checksum of everything before the payload */
	put_name(out, "", NULL);
	put_name(out, "end", NULL);
	put_u32(out, FLAG_REQUIRED);
	put_u32(out, 1);
	put_u32(out, 4);
	if (buf_error(out))
		return err_sys(e, ENOMEM, "save");
	put_u32(out, crc32c(0, out->s, out->len));
	return buf_error(out) ? err_sys(e, ENOMEM, "save") : 0;
}

struct section {
	char id[256], name[256];
	uint32_t flags, version, len;
};

static int take_name(struct cursor *c, char *out)
{
	uint8_t n;

	if (take(c, &n, 1) < 0 || take(c, out, n) < 0)
		return -EINVAL;
	out[n] = '\0';
	return strlen(out) == n ? 0 : -EINVAL;
}

static int take_section(struct cursor *c, struct section *s)
{
	if (take_name(c, s->id) < 0 || take_name(c, s->name) < 0 || take_u32(c, &s->flags) < 0 ||
	    take_u32(c, &s->version) < 0 || take_u32(c, &s->len) < 0 || s->len > c->left)
		return -EINVAL;
	return 0;
}

static int check_header(struct cursor *c, const char *arch, struct err **e)
{
	char magic[8], a[8], want[8];
	uint32_t format;

	if (take(c, magic, 8) < 0 || memcmp(magic, MAGIC, 8) != 0)
		return err_set(e, EINVAL, "save.magic", "not a saved state");
	if (take_u32(c, &format) < 0 || format != FORMAT)
		return err_set(e, ENOTSUP, "save.format", "format of another release");
	put_arch(arch, want);
	if (take(c, a, 8) < 0 || memcmp(a, want, 8) != 0)
		return err_set(e, ENOTSUP, "save.arch",
			       "saved on architecture '%.8s', this is '%s'", a, arch);
	return 0;
}

static int check_sum(const uint8_t *data, size_t len, struct err **e)
{
	uint32_t sum;

	if (len >= 4) {
		memcpy(&sum, data + len - 4, 4);
		if (le32toh(sum) == crc32c(0, data, len - 4))
			return 0;
	}
	return err_set(e, EINVAL, "save.checksum",
		       "cut short or altered: the checksum does not match");
}

static int load_section(const struct section *s, const struct cursor *c, save_find_fn *find,
			void *arg, struct err **e)
{
	struct save_target t = { 0 };
	int r = find(arg, s->id, s->name, &t);

	if (r < 0)
		return err_wrap(e, r, "%s", s->id);
	if (r > 0) {
		if (!(s->flags & FLAG_REQUIRED))
			return 0;
		return err_set(e, ENOTSUP, "save.section", "section '%s' (%s) has no owner here",
			       s->id, s->name);
	}
	if (!streq(t.desc->name, s->name))
		return err_set(e, EINVAL, "save.section", "section '%s' is a %s, wanted %s", s->id,
			       s->name, t.desc->name);
	r = load_fields(t.desc, t.obj, s->version, c->p, s->len, e);
	return r < 0 ? err_wrap(e, r, "%s", s->id) : 0;
}

int load_stream(const void *data, size_t len, const char *arch, save_find_fn *find, void *arg,
		struct err **e)
{
	struct cursor c = { .p = data, .left = len };
	struct section s;
	int r = check_header(&c, arch, e);

	if (r == 0)
		r = check_sum(data, len, e);
	if (r < 0)
		return r;
	for (;;) {
		if (take_section(&c, &s) < 0)
			return err_set(e, EINVAL, "save.section", "malformed section header");
		if (s.id[0] == '\0' && streq(s.name, "end"))
			return c.left == 4 ? 0
					   : err_set(e, EINVAL, "save.end", "bytes after the end");
		r = load_section(&s, &c, find, arg, e);
		if (r < 0)
			return r;
		c.p += s.len;
		c.left -= s.len;
	}
}
