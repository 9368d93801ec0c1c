/* Compressed streams and the tar writer read back by the tar reader: what the extractor stands on. */
#include "unit.h"
#include "ext/untar.h"
#include "image/tarw.h"
#include "base/buf.h"

struct feed {
	const char *p;
	size_t left, step;
};

static ssize_t feed_read(void *arg, void *data, size_t len, struct err **e)
{
	struct feed *f = arg;

	len = MIN(len, MIN(f->left, f->step));
	memcpy(data, f->p, len);
	f->p += len;
	f->left -= len;
	return (ssize_t)len;
}

static int collect(void *arg, const void *data, size_t len, struct err **e)
{
	return buf_add(arg, data, len);
}

static void make(enum compression c, const char *text, size_t len, struct buf *out)
{
	struct comp *z;

	assert_int_equal(comp_new(c, 0, collect, out, &z, NULL), 0);
	assert_int_equal(comp_write(z, text, len, NULL), 0);
	assert_int_equal(comp_finish(z, NULL), 0);
	comp_free(z);
}

static ssize_t unmake(enum compression c, const struct buf *in, size_t len, size_t step, char *out,
		      size_t max)
{
	struct feed f = { in->s, len, step };
	struct decomp *d;
	ssize_t n;

	assert_int_equal(decomp_new(c, feed_read, &f, &d, NULL), 0);
	n = decomp_read(d, out, max, NULL);
	decomp_free(d);
	return n;
}

static void streams(void **state)
{
	static char text[300000], back[700000];

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(i * i >> 7);
	for (enum compression c = COMP_NONE; c <= COMP_ZSTD; c++) {
		struct buf z = { 0 };
		size_t once;

		make(c, text, sizeof(text), &z);
		assert_int_equal(compression_detect(z.s, z.len), c);
		assert_int_equal(unmake(c, &z, z.len, 7, back, sizeof(back)), sizeof(text));
		assert_memory_equal(back, text, sizeof(text));
		once = z.len;
		make(c, text, sizeof(text),
		     &z); /* a second member behind the first is the same stream */
		assert_int_equal(unmake(c, &z, z.len, 4096, back, sizeof(back)), 2 * sizeof(text));
		if (c != COMP_NONE) {
			assert_int_equal(unmake(c, &z, once - 3, 4096, back, sizeof(back)),
					 -EBADMSG);
			z.s[once / 2] ^= 0x55;
			z.s[once / 2 + 1] ^= 0x55;
			assert_true(unmake(c, &z, once, 4096, back, sizeof(back)) < 0);
			buf_clear(&z);
			make(c, text, 10, &z);
			buf_adds(&z, "garbage");
			assert_true(unmake(c, &z, z.len, 4096, back, sizeof(back)) < 0);
		}
		buf_done(&z);
	}
}

static void tar(void **state)
{
	char name[301];
	struct buf b = { 0 };
	struct tarw w;
	struct untar *u;
	struct untar_entry te;
	const void *data;
	size_t len;
	uint64_t off;
	struct feed f;

	memset(name, 'n', 300);
	name[100] = '/';
	name[300] = '\0';
	tarw_init(&w, collect, &b);
	assert_int_equal(tarw_dir(&w, "d/", 0755, 5, NULL), 0);
	assert_int_equal(tarw_file(&w, name, 0640, 3, 77, NULL), 0);
	assert_int_equal(tarw_data(&w, "abc", 3, NULL), 0);
	assert_int_equal(tarw_file(&w, "empty", 0600, 0, 1, NULL), 0);
	assert_int_equal(tarw_finish(&w, NULL), 0);
	assert_int_equal(b.len % 512, 0);
	f = (struct feed){ b.s, b.len, 100 };
	assert_int_equal(untar_new(NULL, feed_read, &f, &u, NULL), 0);
	assert_int_equal(untar_next(u, &te, NULL), 1);
	assert_int_equal(te.type, UNTAR_DIR);
	assert_int_equal(untar_next(u, &te, NULL), 1);
	assert_string_equal(te.path, name);
	assert_int_equal(te.mode, 0640);
	assert_int_equal(te.mtime, 77);
	assert_int_equal(untar_data(u, &data, &len, &off, NULL), 1);
	assert_int_equal(len, 3);
	assert_memory_equal(data, "abc", 3);
	assert_int_equal(untar_next(u, &te, NULL), 1);
	assert_string_equal(te.path, "empty");
	assert_int_equal(untar_next(u, &te, NULL), 0);
	untar_free(u);
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(streams),
		cmocka_unit_test(tar),
	};

	return cmocka_run_group_tests_name("layer", tests, NULL, NULL);
}
