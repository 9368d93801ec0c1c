/* gzip read by ISA-L where there is one: it must give what zlib gives, whatever the windows, and refuse what zlib
 * refuses. */
#include "unit.h"

#include "base/buf.h"
#include "base/rand.h"
#include "ext/compress_ops.h"

#define PLAIN ((size_t)300000)

static int to_buf(void *arg, const void *data, size_t len, struct err **e)
{
	return buf_add(arg, data, len);
}

static void pack(const uint8_t *data, size_t len, struct buf *out)
{
	struct comp *c = NULL;

	assert_int_equal(comp_new(COMP_GZIP, 0, to_buf, out, &c, NULL), 0);
	assert_int_equal(comp_write(c, data, len, NULL), 0);
	assert_int_equal(comp_finish(c, NULL), 0);
	comp_free(c);
}

static void fill(uint8_t *plain, unsigned int kind)
{
	for (size_t i = 0; i < PLAIN; i++) {
		if (kind == 0) /* stored blocks */
			plain[i] = (uint8_t)(i * i * 2654435761u >> 13);
		else /* long matches, then text */
			plain[i] = i % 70000 < 40000 ? 0
						     : (uint8_t)("words of a language"[i * i % 19]);
	}
}

struct source {
	const uint8_t *p;
	size_t len, step;
};

static ssize_t from_source(void *arg, void *data, size_t len, struct err **e)
{
	struct source *s = arg;
	size_t n = MIN(MIN(len, s->step), s->len);

	memcpy(data, s->p, n);
	s->p += n;
	s->len -= n;
	return (ssize_t)n;
}

static void windows(void **state)
{
	static const size_t steps[] = { 1, 7, 1000, 1 << 20 };
	_cleanup_(buf_done) struct buf packed = { 0 };
	_cleanup_(freep) uint8_t *plain = malloc(PLAIN), *got = malloc(2 * PLAIN + 1);

	for (unsigned int kind = 0; kind < 2; kind++) {
		buf_clear(&packed);
		fill(plain, kind);
		pack(plain, PLAIN, &packed);
		pack(plain, PLAIN, &packed); /* two members are one stream */
		for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
			struct source s = { (uint8_t *)packed.s, packed.len, steps[i] };
			struct decomp *d = NULL;
			size_t done = 0;
			ssize_t n;

			assert_int_equal(decomp_new(COMP_GZIP, from_source, &s, &d, NULL), 0);
			while ((n = decomp_read(d, got + done,
						MIN(steps[3 - i], 2 * PLAIN + 1 - done), NULL)) > 0)
				done += (size_t)n;
			assert_int_equal(n, 0);
			assert_int_equal(done, 2 * PLAIN);
			assert_memory_equal(got, plain, PLAIN);
			assert_memory_equal(got + PLAIN, plain, PLAIN);
			assert_int_equal(decomp_in(d), packed.len);
			decomp_free(d);
		}
	}
}

/* All of one member by one codec: bytes out, or -1. */
static ssize_t whole(const struct codec *codec, const struct buf *in, uint8_t *out, size_t len)
{
	struct comp_chunk c = { (uint8_t *)in->s, in->len, out, len };
	void *s = codec->decode_new();
	int r = 0;

	while (r == 0) {
		size_t left = c.in_len + c.out_len;

		r = codec->decode(s, &c);
		if (r == 0 && left == c.in_len + c.out_len)
			r = -1;
	}
	codec->decode_free(s);
	return r == 1 ? (ssize_t)(len - c.out_len) : -1;
}

static void damage(void **state)
{
	_cleanup_(buf_done) struct buf packed = { 0 };
	_cleanup_(freep) uint8_t *plain = malloc(PLAIN), *a = malloc(PLAIN), *b = malloc(PLAIN);
	const struct codec *isal = codec_isal();

	if (!isal)
		skip();
	fill(plain, 1);
	pack(plain, PLAIN, &packed);
	for (size_t i = 0; i < 8 * packed.len; i += 1 + i / 64) {
		ssize_t x, y;

		packed.s[i / 8] ^= (char)(1 << i % 8);
		x = whole(&codec_zlib, &packed, a, PLAIN);
		y = whole(isal, &packed, b, PLAIN);
		/* header fields that say nothing (time, system) may differ in taste, the content may not */
		if (i / 8 >= 10 || x >= 0)
			assert_int_equal(x, y);
		if (x > 0)
			assert_memory_equal(a, b, (size_t)x);
		packed.s[i / 8] ^= (char)(1 << i % 8);
	}
	for (size_t cut = packed.len; cut > 0; cut /= 2) {
		packed.len = cut - 1;
		assert_int_equal(whole(isal, &packed, b, PLAIN), -1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows),
		cmocka_unit_test(damage),
	};

	return cmocka_run_group_tests_name("compress", tests, NULL, NULL);
}
