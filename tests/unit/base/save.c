/* Saved state: round trip, versions, and everything a hostile stream can try. */
#include <errno.h>
#include "unit.h"
#include "base/save.h"
#include "base/crc.h"
#include "base/str.h"

struct fifo {
	uint8_t data[4];
	uint16_t head;
};

struct dev {
	bool on;
	uint8_t ier;
	uint16_t word;
	uint32_t regs[3];
	uint64_t last_tx;
	struct fifo fifo[2];
	struct save_blob config;
	int derived; /* rebuilt, not saved */
};

static const struct save_field fifo_fields[] = {
	SAVE(struct fifo, data, BYTES, 1),
	SAVE(struct fifo, head, U16, 1),
};
static const struct save_desc fifo_save = SAVE_DESC("fifo", 1, 1, fifo_fields);

static int dev_after_load(void *obj, uint32_t version, struct err **e)
{
	struct dev *d = obj;

	if (d->ier > 0x0f)
		return err_set(e, EINVAL, "uart.ier", "ier %#x has unknown bits", d->ier);
	d->derived = (int)version;
	return 0;
}

#define V1_FIELDS                                                                     \
	SAVE(struct dev, on, BOOL, 1), SAVE(struct dev, ier, U8, 1),                  \
		SAVE(struct dev, word, U16, 1), SAVE_ARRAY(struct dev, regs, U32, 1), \
		SAVE_NESTED_ARRAY(struct dev, fifo, &fifo_save, 1),                   \
		SAVE_VBYTES(struct dev, config, 16, 1)

static const struct save_field v1_fields[] = { V1_FIELDS };
static const struct save_field v2_fields[] = { V1_FIELDS, SAVE(struct dev, last_tx, U64, 2) };
static const struct save_desc v1 = SAVE_DESC("uart", 1, 1, v1_fields, .after_load = dev_after_load);
static const struct save_desc v2 = SAVE_DESC("uart", 2, 1, v2_fields, .after_load = dev_after_load);
static const struct save_desc extra = SAVE_DESC("extra", 1, 1, fifo_fields, .optional = true);
static const struct save_desc strange = SAVE_DESC("strange", 1, 1, fifo_fields);

static struct dev sample(void)
{
	return (struct dev){ .on = true,
			     .ier = 5,
			     .word = 0x1234,
			     .regs = { 1, 2, 3 },
			     .last_tx = 99,
			     .fifo = { { { 1, 2, 3, 4 }, 7 }, { { 5 }, 8 } },
			     .config = { (void *)"cfg", 3 } };
}

struct finder {
	const struct save_desc *desc;
	struct dev *dev;
};

static int find(void *arg, const char *id, const char *name, struct save_target *ret)
{
	struct finder *f = arg;

	if (!streq(id, "serial0"))
		return 1;
	*ret = (struct save_target){ f->desc, f->dev };
	return 0;
}

static void make(struct buf *b, const struct save_desc *d, const struct save_desc *other)
{
	struct dev dev = sample();

	assert_int_equal(save_begin(b, "x86_64", NULL), 0);
	assert_int_equal(save_section(b, "serial0", d, &dev, NULL), 0);
	if (other)
		assert_int_equal(save_section(b, "other0", other, &dev.fifo[0], NULL), 0);
	assert_int_equal(save_end(b, NULL), 0);
}

static int load(const struct buf *b, const struct save_desc *d, struct dev *dev, struct err **e)
{
	struct finder f = { d, dev };

	return load_stream(b->s, b->len, "x86_64", find, &f, e);
}

static void round_trip(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct dev d = { 0 }, want = sample();

	make(&b, &v2, &extra); /* the optional section has no owner and is skipped */
	assert_int_equal(load(&b, &v2, &d, NULL), 0);
	assert_int_equal(d.config.len, 3);
	assert_memory_equal(d.config.data, "cfg", 3);
	assert_int_equal(d.derived, 2);
	assert_true(d.on && d.ier == 5 && d.word == 0x1234 && d.last_tx == 99);
	assert_memory_equal(d.regs, want.regs, sizeof(d.regs));
	assert_memory_equal(d.fifo, want.fifo, sizeof(d.fifo));
	free(d.config.data);
}

static void an_older_version_keeps_reset_values(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct dev d = { .last_tx = 7 };

	make(&b, &v1, NULL);
	assert_int_equal(load(&b, &v2, &d, NULL), 0);
	assert_int_equal(d.last_tx, 7);
	assert_int_equal(d.derived, 1);
	free(d.config.data);
}

static void refusals_name_the_reason(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 }, c = { 0 };
	struct err *e = NULL;
	struct dev d = { 0 };
	struct finder f = { &v2, &d };

	make(&b, &v2, NULL);
	assert_int_equal(load(&b, &v1, &d, &e), -ENOTSUP); /* from a newer release */
	assert_non_null(strstr(err_msg(e), "version 2, this release reads 1 to 1"));
	err_clear(&e);
	assert_int_equal(load_stream(b.s, b.len, "aarch64", find, &f, &e), -ENOTSUP);
	assert_non_null(strstr(err_msg(e), "architecture 'x86_64'"));
	err_clear(&e);
	make(&c, &v2, &strange);
	assert_int_equal(load(&c, &v2, &d, &e), -ENOTSUP);
	assert_non_null(strstr(err_msg(e), "'other0' (strange) has no owner"));
	err_clear(&e);
	free(d.config.data);
}

static void every_cut_and_every_flip_is_refused(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct dev d = { 0 };

	make(&b, &v2, NULL);
	for (size_t n = 0; n < b.len; n++) {
		struct buf cut = { .s = b.s, .len = n };

		assert_true(load(&cut, &v2, &d, NULL) < 0);
	}
	for (size_t i = 0; i < b.len; i++) {
		b.s[i] ^= 0x10;
		assert_true(load(&b, &v2, &d, NULL) < 0);
		b.s[i] ^= 0x10;
	}
	free(d.config.data);
}

/* With a right checksum, so that the field checks themselves are what refuses. */
static void fields_are_checked_behind_a_good_checksum(void **state)
{
	struct dev d = { 0 };
	_cleanup_(buf_done) struct buf p = { 0 };
	struct dev s = sample();

	assert_int_equal(save_fields(&v2, &s, &p, NULL), 0);
	for (size_t n = 0; n < p.len; n++)
		assert_true(load_fields(&v2, &d, 2, p.s, n, NULL) < 0);
	p.s[0] = 2; /* a bool that is neither */
	assert_int_equal(load_fields(&v2, &d, 2, p.s, p.len, NULL), -EINVAL);
	p.s[0] = 1;
	p.s[1] = 0x7f; /* refused by after_load */
	assert_int_equal(load_fields(&v2, &d, 2, p.s, p.len, NULL), -EINVAL);
	p.s[1] = 0;
	buf_addc(&p, 0);
	assert_int_equal(load_fields(&v2, &d, 2, p.s, p.len, NULL), -EINVAL);
	free(d.config.data);
}

static void the_format_does_not_drift(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	/* Changing this number means that older files are no longer read: bump FORMAT and keep the old reader. */
	make(&b, &v2, &extra);
	assert_int_equal(b.len, 148);
	assert_int_equal(crc32c(0, b.s, b.len - 4), 0x68b649f1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(an_older_version_keeps_reset_values),
		cmocka_unit_test(refusals_name_the_reason),
		cmocka_unit_test(every_cut_and_every_flip_is_refused),
		cmocka_unit_test(fields_are_checked_behind_a_good_checksum),
		cmocka_unit_test(the_format_does_not_drift),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
