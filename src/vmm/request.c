/* See request.h.  Spec: RFC 8259, the part that is used. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "base/checked.h"
#include "base/str.h"
#include "vmm/request.h"

struct reader {
	const char *p, *end, *start;
};

static int bad(struct reader *in, const char *what, struct err **e)
{
	return err_set(e, EINVAL, "request.syntax", "request: %s at byte %zu", what,
		       (size_t)(in->p - in->start));
}

static void blanks(struct reader *in)
{
	while (in->p < in->end &&
	       (*in->p == ' ' || *in->p == '\t' || *in->p == '\n' || *in->p == '\r'))
		in->p++;
}

static bool take(struct reader *in, char c)
{
	blanks(in);
	if (in->p == in->end || *in->p != c)
		return false;
	in->p++;
	return true;
}

static int hex4(struct reader *in, unsigned int *ret)
{
	*ret = 0;
	for (int i = 0; i < 4; i++, in->p++) {
		char c;

		if (in->p == in->end)
			return -EINVAL;
		c = *in->p;
		if (c >= '0' && c <= '9')
			*ret = *ret << 4 | (unsigned int)(c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			*ret = *ret << 4 | (unsigned int)((c | 32) - 'a' + 10);
		else
			return -EINVAL;
	}
	return 0;
}

static int escape(struct reader *in, struct buf *b)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *at;
	unsigned int u;

	if (in->p == in->end)
		return -EINVAL;
	if (*in->p != 'u') {
		at = memchr(from, *in->p, sizeof(from) - 1);
		in->p++;
		return at ? buf_addc(b, to[at - from]) : -EINVAL;
	}
	in->p++;
	/* Surrogates and NUL have no place in a path or a name. */
	if (hex4(in, &u) < 0 || u == 0 || (u >= 0xd800 && u < 0xe000))
		return -EINVAL;
	if (u < 0x80)
		return buf_addc(b, (char)u);
	if (u < 0x800) {
		buf_addc(b, (char)(0xc0 | u >> 6));
	} else {
		buf_addc(b, (char)(0xe0 | u >> 12));
		buf_addc(b, (char)(0x80 | (u >> 6 & 0x3f)));
	}
	return buf_addc(b, (char)(0x80 | (u & 0x3f)));
}

static int string(struct reader *in, char **ret, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	if (!take(in, '"'))
		return bad(in, "a string is missing", e);
	while (in->p < in->end && *in->p != '"') {
		if ((unsigned char)*in->p < 0x20)
			return bad(in, "a control character in a string", e);
		if (*in->p == '\\') {
			in->p++;
			if (escape(in, &b) < 0)
				return bad(in, "a bad escape", e);
		} else {
			buf_addc(&b, *in->p++);
		}
	}
	if (in->p == in->end)
		return bad(in, "a string does not end", e);
	in->p++;
	if (buf_addc(&b, '\0') < 0)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	if (!utf8_valid(b.s))
		return bad(in, "a string is not UTF-8", e);
	*ret = buf_take(&b);
	return *ret ? 0 : err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
}

static bool word(struct reader *in, const char *w)
{
	size_t n = strlen(w);

	if ((size_t)(in->end - in->p) < n || memcmp(in->p, w, n) != 0)
		return false;
	in->p += n;
	return true;
}

static int value(struct reader *in, struct request_field *f, struct err **e)
{
	blanks(in);
	if (in->p < in->end && *in->p == '"') {
		f->kind = REQUEST_STRING;
		return string(in, &f->string, e);
	}
	f->kind = REQUEST_BOOL;
	if (word(in, "true")) {
		f->number = 1;
		return 0;
	}
	if (word(in, "false"))
		return 0;
	f->kind = REQUEST_NUMBER;
	if (in->p == in->end || *in->p < '0' || *in->p > '9')
		return bad(in, "a string, a whole number, true or false is missing", e);
	while (in->p < in->end && *in->p >= '0' && *in->p <= '9')
		if (mul_of(f->number, 10, &f->number) ||
		    add_of(f->number, (uint64_t)(*in->p++ - '0'), &f->number))
			return bad(in, "a number is too large", e);
	return 0;
}

int request_parse(const char *text, size_t len, struct request *ret, struct err **e)
{
	struct reader in = { text, text + len, text };
	int r = 0;

	*ret = (struct request){ 0 };
	if (!take(&in, '{'))
		return bad(&in, "'{' is missing", e);
	if (!take(&in, '}')) {
		do {
			struct request_field *f = &ret->field[ret->n];

			if (ret->n == REQUEST_MAX_FIELDS) {
				r = bad(&in, "too many fields", e);
				break;
			}
			ret->n++;
			r = string(&in, &f->key, e);
			for (unsigned int i = 0; r == 0 && i < ret->n - 1; i++)
				if (strcmp(ret->field[i].key, f->key) == 0)
					r = bad(&in, "a key comes twice", e);
			if (r == 0 && !take(&in, ':'))
				r = bad(&in, "':' is missing", e);
			if (r == 0)
				r = value(&in, f, e);
		} while (r == 0 && take(&in, ','));
		if (r == 0 && !take(&in, '}'))
			r = bad(&in, "'}' is missing", e);
	}
	blanks(&in);
	if (r == 0 && in.p != in.end)
		r = bad(&in, "something follows the object", e);
	if (r < 0)
		request_done(ret);
	return r;
}

void request_done(struct request *r)
{
	for (unsigned int i = 0; i < r->n; i++) {
		free(r->field[i].key);
		free(r->field[i].string);
	}
	*r = (struct request){ 0 };
}

static const struct request_field *find(const struct request *r, const char *key)
{
	for (unsigned int i = 0; i < r->n; i++)
		if (r->field[i].key && strcmp(r->field[i].key, key) == 0)
			return &r->field[i];
	return NULL;
}

const char *request_string(const struct request *r, const char *key)
{
	const struct request_field *f = find(r, key);

	return f && f->kind == REQUEST_STRING ? f->string : NULL;
}

int request_number(const struct request *r, const char *key, uint64_t *ret)
{
	const struct request_field *f = find(r, key);

	if (!f)
		return -ENOENT;
	if (f->kind == REQUEST_STRING)
		return -EINVAL;
	*ret = f->number;
	return 0;
}
