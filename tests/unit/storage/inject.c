/* Every request that reaches the driver fails once (EIO), and from every one on the driver is full for a while (ENOSPC):
 * the guest gets an error or its data, what it was told is done stays, and the image is consistent afterwards. */
#include "unit.h"
#include "base/rand.h"
#include "storage/drivers/mem.h"
#include "storage/storage.h"

#define SIZE	((uint64_t)384 << 10)
#define SECTOR	512
#define SECTORS (SIZE / SECTOR)
#define OPS	30

static uint8_t *start, buf[SIZE];
static uint64_t start_len;

/* What a sector may hold: the last acknowledged value, and those of failed writes since. */
static struct {
	uint32_t v[OPS + 1];
	unsigned int n;
} may[SECTORS];

static void wrote(uint64_t first, uint64_t n, uint32_t id, int r)
{
	for (uint64_t s = first; s < first + n; s++) {
		if (r == 0)
			may[s].n = 0;
		may[s].v[may[s].n++] = id;
	}
}

static void compare(struct disk *d, size_t k, const char *when)
{
	assert_int_equal(disk_pread(d, buf, SIZE, 0), 0);
	for (uint64_t s = 0; s < SECTORS; s++) {
		bool ok = false;
		uint32_t have;

		memcpy(&have, buf + s * SECTOR, 4);
		for (unsigned int i = 0; i < may[s].n; i++)
			ok |= may[s].v[i] == have;
		if (!ok)
			fail_msg("fault at %zu, %s: sector %llu holds %u", k, when,
				 (unsigned long long)s, have);
	}
}

static void consistent(struct disk *d, size_t k, const char *when)
{
	struct disk_check c = { 0 };

	assert_int_equal(disk_check(d, DISK_REPAIR_NONE, &c, NULL), 0);
	if (c.corruptions || c.errors)
		fail_msg("fault at %zu, %s: %llu corruptions", k, when,
			 (unsigned long long)c.corruptions);
}

/* The image as the driver has it in the end. */
static void again(struct mem_journal *j, size_t k, bool flushed)
{
	struct disk_cfg cfg = { .driver = "mem", .path = "inject", .format = "qcow2" };
	uint64_t len = start_len, cap = start_len + ((uint64_t)8 << 20);
	uint8_t *p = calloc(1, cap);
	struct mem_journal j2 = { .initial = p };
	struct disk *d = NULL;
	struct err *e = NULL;

	memcpy(p, start, start_len);
	for (size_t i = 0; i < j->n; i++) {
		const struct mem_event *ev = &j->v[i];

		if (ev->op == DISK_FLUSH)
			continue;
		assert_true(ev->off + ev->len <= cap);
		if (ev->op == DISK_WRITE)
			memcpy(p + ev->off, ev->data, ev->len);
		else
			memset(p + ev->off, 0, ev->len);
		if (ev->op != DISK_DISCARD && ev->off + ev->len > len)
			len = ev->off + ev->len;
	}
	j2.initial_len = len;
	mem_journal_next = &j2;
	if (disk_open(&cfg, &d, &e) < 0)
		fail_msg("fault at %zu, opened again: %s", k, err_msg(e));
	consistent(d, k, "opened again");
	if (flushed)
		compare(d, k, "opened again");
	disk_close(d);
	free(p);
}

/* False: the fault was not reached. */
static bool run(uint64_t seed, size_t k, size_t n, int errno_, bool snapshots)
{
	struct disk_cfg cfg = { .driver = "mem", .path = "inject", .format = "qcow2" };
	struct mem_journal j = { .record = true,
				 .initial = start,
				 .initial_len = start_len,
				 .fail_from = k,
				 .fail_n = n,
				 .fail_errno = errno_ };
	struct disk *d = NULL;
	struct prng rng;
	int last;

	prng_seed(&rng, seed);
	for (uint64_t s = 0; s < SECTORS; s++) {
		may[s].v[0] = 0;
		may[s].n = 1;
	}
	mem_journal_next = &j;
	assert_int_equal(disk_open(&cfg, &d, NULL), 0);
	for (uint32_t i = 0; i < OPS; i++) {
		uint64_t first = prng_below(&rng, SECTORS),
			 len = 1 + prng_below(&rng, MIN(SECTORS - first, (uint64_t)64));
		uint32_t kind = (uint32_t)prng_below(&rng, 9), id = kind < 6 ? i + 1 : 0;
		int r;

		if (kind < 2) {
			disk_flush(d); /* may fail */
			continue;
		}
		if (kind == 8 && snapshots) {
			char name[16];

			snprintf(name, sizeof(name), "s%u", i);
			disk_snapshot_create(d, name, NULL); /* may fail */
			continue;
		}
		for (uint64_t s = 0; s < len; s++) {
			memset(buf + s * SECTOR, 0, SECTOR);
			memcpy(buf + s * SECTOR, &id, 4);
		}
		r = id ? disk_pwrite(d, buf, len * SECTOR, first * SECTOR)
		       : disk_sync_op(d, DISK_WRITE_ZEROES, DISK_MAY_UNMAP, first * SECTOR,
				      len * SECTOR);
		if (r < 0 && r != -errno_)
			fail_msg("fault at %zu: %s instead of %s", k, strerror(-r),
				 strerror(errno_));
		wrote(first, len, id, r);
	}
	compare(d, k, "while open");
	j.fail_from = j.seen + 1000000;
	last = disk_flush(d);
	compare(d, k, "flushed");
	if (last == 0)
		consistent(d, k, "flushed");
	last = disk_close(d) ?: last;
	again(&j, k, last == 0);
	if (j.failed && last < 0)
		fail_msg("fault at %zu: what failed once fails for ever: %s", k, strerror(-last));
	for (size_t i = 0; i < j.n; i++)
		free(j.v[i].data);
	free(j.v);
	return j.failed > 0;
}

static void layout(const char *const *params, uint64_t seed, bool snapshots)
{
	char path[] = "/tmp/strata-inject-XXXXXX";
	int fd = mkstemp(path);
	struct disk_create c = { .format = "qcow2", .path = path, .size = SIZE, .params = params };
	size_t k;

	assert_int_equal(disk_create(&c, NULL), 0);
	start_len = (uint64_t)lseek(fd, 0, SEEK_END);
	start = malloc(start_len);
	assert_int_equal(pread(fd, start, start_len, 0), start_len);
	close(fd);
	unlink(path);
	for (k = 1; run(seed, k, 1, EIO, snapshots); k++)
		;
	assert_true(k > 20);
	for (k = 1; run(seed, k, 8, ENOSPC, snapshots); k++)
		;
	free(start);
}

#define OPTS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void every_request(void **state)
{
	layout(OPTS("cluster_size", "4096"), 1, false);
	layout(OPTS("cluster_size", "512"), 2, false);
	layout(OPTS("cluster_size", "16k", "extended_l2", "on"), 3, false);
	layout(OPTS("cluster_size", "4096", "refcount_bits", "64"), 4, true);
	layout(OPTS("cluster_size", "1024", "compat", "0.10"), 5, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(every_request) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
