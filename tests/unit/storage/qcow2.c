/* qcow2 against a plain model in memory: random requests on every layout, with reopening, a backing file and checks. */
#include "unit.h"
#include "base/rand.h"
#include "storage/storage.h"

#define SIZE ((uint64_t)6 << 20)

static char dir[64];

static char *path(const char *name)
{
	static char p[4][128];
	static int i;

	i = (i + 1) % 4;
	snprintf(p[i], sizeof(p[i]), "%s/%s", dir, name);
	return p[i];
}

static struct disk *open_it(const char *p, bool readonly)
{
	struct disk_cfg cfg = { .path = p, .format = "qcow2", .readonly = readonly };
	struct err *e = NULL;
	struct disk *d = NULL;

	if (disk_open(&cfg, &d, &e) < 0)
		fail_msg("%s", err_msg(e));
	return d;
}

static void must_create(const struct disk_create *c)
{
	struct err *e = NULL;

	if (disk_create(c, &e) < 0)
		fail_msg("%s", err_msg(e));
}

static void say(void *arg, const char *text)
{
	print_message("# check: %s\n", text);
}

static void must_check(const char *p)
{
	struct disk *d = open_it(p, true);
	struct disk_check c = { .message = say };

	assert_int_equal(disk_check(d, DISK_REPAIR_NONE, &c, NULL), 0);
	assert_int_equal(c.corruptions, 0);
	assert_int_equal(c.leaks, 0);
	assert_int_equal(c.errors, 0);
	disk_close(d);
}

static void fill(struct prng *rng, uint8_t *p, size_t len)
{
	memset(p, (int)(1 + prng_below(rng, 255)), len);
	p[0] = (uint8_t)prng_next(rng);
	p[len - 1] = (uint8_t)prng_next(rng);
}

static void step(struct disk *d, struct prng *rng, uint8_t *model, uint8_t *buf, bool v2_below)
{
	uint64_t off = prng_below(rng, SIZE),
		 len = 1 +
		       prng_below(rng, MIN(SIZE - off, (uint64_t)1 << (6 + prng_below(rng, 14))));
	unsigned int unmap = (unsigned int)prng_below(rng, 2) * DISK_MAY_UNMAP;

	if (prng_below(rng, 3) == 0) {
		off &= ~(uint64_t)4095;
		len = MIN(ALIGN_UP(len, (uint64_t)4096), SIZE - off);
	}
	switch (prng_below(rng, 8)) {
	case 0:
	case 1:
	case 2:
		fill(rng, buf, len);
		assert_int_equal(disk_pwrite(d, buf, len, off), 0);
		memcpy(model + off, buf, len);
		break;
	case 3:
		assert_int_equal(disk_sync_op(d, DISK_WRITE_ZEROES, unmap, off, len), 0);
		memset(model + off, 0, len);
		break;
	case 4: /* what is discarded may read as anything: take what it reads as */
		assert_int_equal(disk_sync_op(d, DISK_DISCARD, 0, off, len), 0);
		assert_int_equal(disk_pread(d, buf, len, off), 0);
		for (uint64_t i = 0; i < len; i++)
			assert_true(buf[i] == 0 || buf[i] == model[off + i]);
		memcpy(model + off, buf, len);
		break;
	case 5:
		assert_int_equal(disk_flush(d), 0);
		break;
	default:
		assert_int_equal(disk_pread(d, buf, len, off), 0);
		assert_memory_equal(buf, model + off, len);
	}
}

static void run(const char *const *params, bool backing, uint64_t seed, int rounds)
{
	struct disk_create c = {
		.format = "qcow2", .path = path("a"), .size = SIZE, .params = params
	};
	uint8_t *model = calloc(1, SIZE), *buf = malloc(SIZE);
	struct prng rng;
	struct disk *d;

	prng_seed(&rng, seed);
	if (backing) {
		struct disk_create b = { .format = "qcow2",
					 .path = path("base"),
					 .size = SIZE - 100000 };

		must_create(&b);
		d = open_it(path("base"), false);
		for (int i = 0; i < 30; i++) {
			uint64_t off = prng_below(&rng, b.size - 70000),
				 len = 1 + prng_below(&rng, 70000);

			fill(&rng, model + off, len);
			assert_int_equal(disk_pwrite(d, model + off, len, off), 0);
		}
		assert_int_equal(disk_close(d), 0);
		c.backing = path("base");
		c.backing_format = "qcow2";
	}
	must_create(&c);
	for (int again = 0; again < 4; again++) {
		d = open_it(path("a"), false);
		for (int i = 0; i < rounds; i++)
			step(d, &rng, model, buf, false);
		assert_int_equal(disk_pread(d, buf, SIZE, 0), 0);
		assert_memory_equal(buf, model, SIZE);
		assert_int_equal(disk_close(d), 0);
		must_check(path("a"));
	}
	d = open_it(path("a"), true);
	assert_int_equal(disk_pread(d, buf, SIZE, 0), 0);
	assert_memory_equal(buf, model, SIZE);
	disk_close(d);
	free(model);
	free(buf);
}

#define OPTS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void all_layouts(void **state)
{
	run(NULL, false, 1, 150);
	run(NULL, true, 2, 150);
	run(OPTS("cluster_size", "512"), false, 3, 100);
	run(OPTS("cluster_size", "4096", "refcount_bits", "1"), true, 4, 150);
	run(OPTS("cluster_size", "2M", "refcount_bits", "64"), true, 5, 100);
	run(OPTS("extended_l2", "on"), true, 6, 150);
	run(OPTS("extended_l2", "on", "cluster_size", "16k"), false, 7, 150);
	run(OPTS("compat", "0.10"), false, 8, 150);
	run(OPTS("compat", "0.10", "cluster_size", "1024"), true, 9, 100);
	run(OPTS("preallocation", "metadata"), false, 10, 150);
	run(OPTS("data_file", "data"), false, 11, 150);
	run(OPTS("data_file", "data", "data_file_raw", "on", "extended_l2", "on"), false, 12, 150);
}

static void internal_snapshots(void **state)
{
	static const char *const names[] = { "a", "b", "c", "d" };
	struct disk_create c = { .format = "qcow2",
				 .path = path("s"),
				 .size = SIZE,
				 .params = OPTS("cluster_size", "8192") };
	uint8_t *model = calloc(1, SIZE), *buf = malloc(SIZE), *saved[4] = { 0 };
	struct prng rng;
	struct disk *d;

	prng_seed(&rng, 77);
	must_create(&c);
	d = open_it(c.path, false);
	for (int round = 0; round < 40; round++) {
		int i = (int)prng_below(&rng, 4);

		for (int k = 0; k < 20; k++)
			step(d, &rng, model, buf, false);
		switch (prng_below(&rng, 3)) {
		case 0:
			if (saved[i]) {
				assert_int_equal(disk_snapshot_rm(d, names[i], NULL), 0);
				free(TAKE(saved[i]));
			}
			break;
		case 1:
			if (saved[i]) {
				assert_int_equal(disk_snapshot_apply(d, names[i], NULL), 0);
				memcpy(model, saved[i], SIZE);
			}
			break;
		default:
			if (!saved[i]) {
				assert_int_equal(disk_snapshot_create(d, names[i], NULL), 0);
				saved[i] = malloc(SIZE);
				memcpy(saved[i], model, SIZE);
			}
		}
		if (round % 8 == 7) {
			assert_int_equal(disk_close(d), 0);
			must_check(c.path);
			d = open_it(c.path, false);
		}
		assert_int_equal(disk_pread(d, buf, SIZE, 0), 0);
		assert_memory_equal(buf, model, SIZE);
	}
	disk_close(d);
	must_check(c.path);
	for (int i = 0; i < 4; i++)
		free(saved[i]);
	free(model);
	free(buf);
}

static void grows(void **state)
{
	struct disk_create c = { .format = "qcow2",
				 .path = path("g"),
				 .size = 100000,
				 .params = OPTS("cluster_size", "512") };
	struct disk *d;
	char b[3] = "xyz", z[3];

	must_create(&c);
	d = open_it(c.path, false);
	assert_int_equal(disk_pwrite(d, b, 3, 99997), 0);
	assert_int_equal(disk_resize(d, 50 << 20, DISK_THIN, false, NULL), 0);
	assert_int_equal(disk_pread(d, z, 3, 99997), 0);
	assert_memory_equal(b, z, 3);
	assert_int_equal(disk_pwrite(d, b, 3, (50 << 20) - 3), 0);
	assert_int_equal(disk_resize(d, 51 << 20, DISK_EAGER, false, NULL), 0);
	assert_int_equal(disk_resize(d, 60000, DISK_THIN, true, NULL), 0);
	assert_int_equal(disk_resize(d, 1 << 20, DISK_THIN, false, NULL), 0);
	assert_int_equal(disk_pread(d, z, 3, 99997), 0);
	assert_memory_equal("\0\0\0", z, 3);
	assert_int_equal(disk_close(d), 0);
	must_check(c.path);
}

static int make_dir(void **state)
{
	strcpy(dir, "/tmp/strata-qcow2-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state)
{
	static const char *const names[] = { "a", "base", "s", "g", "data" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unlink(path(names[i]));
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_layouts),
		cmocka_unit_test(internal_snapshots),
		cmocka_unit_test(grows),
	};

	return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
