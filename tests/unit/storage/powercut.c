/* Power cuts: a random workload on qcow2 is recorded below the format; then the power fails at every event.
 *
 * What was flushed below is there; of what came after, any part may be: a random subset of the 512-byte sectors of
 * each write.  Each such image must open, check without corruption (leaks are allowed), and hold in each guest sector
 * what the last acknowledged flush promised or something written later.
 *
 * $STRATA_POWERCUT_OPS: operations per layout (default 80). */
#include "unit.h"
#include "base/rand.h"
#include "storage/drivers/mem.h"
#include "storage/storage.h"

#define SIZE	((uint64_t)512 << 10)
#define SECTOR	512
#define SECTORS (SIZE / SECTOR)

struct op { /* what the guest did: sectors [first, first+n) hold `id` (0: zeroes) from event `begun` on at the earliest */
	uint32_t id;
	uint64_t first, n;
	size_t begun;
	bool snapshot;
};

static struct op ops[4096];
static size_t n_ops;
static struct { /* an acknowledged flush: all ops before `op` are stable once `event` events have happened */
	size_t event, op;
} flushed[4096];
static size_t n_flushed;

static uint8_t *image; /* the disk at the last flush below, then the candidate */
static uint64_t image_len;
static uint8_t buf[1 << 20];

static void put(uint8_t **p, uint64_t *len, uint64_t off, const uint8_t *data, uint64_t n)
{
	if (off + n > *len) {
		*p = realloc(*p, off + n);
		memset(*p + *len, 0, off + n - *len);
		*len = off + n;
	}
	if (data)
		memcpy(*p + off, data, n);
	else
		memset(*p + off, 0, n);
}

/* All of the event, or (rng) a random part of its sectors. */
static void apply(uint8_t **p, uint64_t *len, const struct mem_event *ev, struct prng *rng)
{
	int mode = rng ? (int)prng_below(rng, 4)
		       : 0; /* 0: all, 1: nothing, else sector by sector */

	if (ev->op == DISK_FLUSH || mode == 1)
		return;
	for (uint64_t at = 0; at < ev->len;) {
		uint64_t n = MIN(SECTOR - (ev->off + at) % SECTOR, ev->len - at);

		if (mode == 0 || prng_below(rng, 2))
			if (ev->op == DISK_WRITE || ev->off + at + n <= *len)
				put(p, len, ev->off + at, ev->data ? ev->data + at : NULL, n);
		at += n;
	}
}

static void judge(const uint8_t *p, uint64_t len, size_t event)
{
	struct mem_journal j = { .initial = p, .initial_len = len };
	struct disk_cfg cfg = { .driver = "mem", .path = "powercut", .format = "qcow2" };
	struct disk_check c = { 0 };
	struct err *e = NULL;
	struct disk *d = NULL;
	size_t stable = 0;
	int r;

	mem_journal_next = &j;
	r = disk_open(&cfg, &d, &e);
	if (r < 0)
		fail_msg("after event %zu: %s", event, err_msg(e));
	assert_int_equal(disk_check(d, DISK_REPAIR_NONE, &c, NULL), 0);
	if (c.corruptions || c.errors)
		fail_msg("after event %zu: %llu corruptions", event,
			 (unsigned long long)c.corruptions);
	for (size_t i = 0; i < n_flushed; i++)
		if (flushed[i].event <= event)
			stable = flushed[i].op;
	assert_int_equal(disk_pread(d, buf, SIZE, 0), 0);
	for (uint64_t s = 0; s < SECTORS; s++) {
		uint32_t have, promised = 0;
		bool ok;

		memcpy(&have, buf + s * SECTOR, 4);
		for (size_t i = 0; i < stable; i++)
			if (s >= ops[i].first && s < ops[i].first + ops[i].n)
				promised = ops[i].id;
		ok = have == promised;
		for (size_t i = stable; i < n_ops && !ok && ops[i].begun <= event; i++)
			ok = s >= ops[i].first && s < ops[i].first + ops[i].n && have == ops[i].id;
		if (!ok)
			fail_msg("after event %zu: sector %llu holds %u, promised %u", event,
				 (unsigned long long)s, have, promised);
	}
	disk_close(d);
}

static void run(const char *const *params, uint64_t seed)
{
	char path[] = "/tmp/strata-powercut-XXXXXX";
	const char *env = getenv("STRATA_POWERCUT_OPS");
	int fd = mkstemp(path), count = env ? atoi(env) : 80;
	struct disk_create c = { .format = "qcow2", .path = path, .size = SIZE, .params = params };
	struct disk_cfg cfg = { .driver = "mem", .path = "powercut", .format = "qcow2" };
	struct mem_journal j = { .record = true };
	struct disk *d = NULL;
	struct prng rng;
	uint8_t *start, *now = NULL;
	uint64_t now_len = 0;
	size_t last = 0;

	n_ops = n_flushed = 0;
	prng_seed(&rng, seed);
	assert_int_equal(disk_create(&c, NULL), 0);
	image_len = (uint64_t)lseek(fd, 0, SEEK_END);
	start = malloc(image_len);
	assert_int_equal(pread(fd, start, image_len, 0), image_len);
	close(fd);
	unlink(path);
	j.initial = start;
	j.initial_len = image_len;
	mem_journal_next = &j;
	assert_int_equal(disk_open(&cfg, &d, NULL), 0);
	for (int i = 0; i < count; i++) {
		uint64_t first = prng_below(&rng, SECTORS),
			 n = 1 + prng_below(&rng, MIN(SECTORS - first, (uint64_t)64));
		uint32_t kind = (uint32_t)prng_below(&rng, 8);

		if (kind < 2) {
			assert_int_equal(disk_flush(d), 0);
			flushed[n_flushed].event = j.n;
			flushed[n_flushed++].op = n_ops;
			continue;
		}
		ops[n_ops] =
			(struct op){ kind < 6 ? (uint32_t)n_ops + 1 : 0, first, n, j.n, false };
		for (uint64_t s = 0; s < n; s++) {
			memset(buf + s * SECTOR, 0, SECTOR);
			memcpy(buf + s * SECTOR, &ops[n_ops].id, 4);
		}
		if (ops[n_ops++].id)
			assert_int_equal(disk_pwrite(d, buf, n * SECTOR, first * SECTOR), 0);
		else
			assert_int_equal(disk_sync_op(d, DISK_WRITE_ZEROES,
						      kind == 6 ? DISK_MAY_UNMAP : 0,
						      first * SECTOR, n * SECTOR),
					 0);
	}
	assert_int_equal(disk_close(d), 0);
	/* the power fails before event k */
	image = malloc(image_len);
	memcpy(image, start, image_len);
	for (size_t k = 0; k <= j.n; k++) {
		for (int variant = 0; variant < 2; variant++) {
			now_len = image_len;
			now = realloc(now, image_len);
			memcpy(now, image, image_len);
			for (size_t i = last; i < k; i++)
				apply(&now, &now_len, &j.v[i], variant ? &rng : NULL);
			judge(now, now_len, k);
		}
		if (k < j.n && j.v[k].op == DISK_FLUSH) {
			for (size_t i = last; i < k; i++)
				apply(&image, &image_len, &j.v[i], NULL);
			last = k;
		}
	}
	for (size_t i = 0; i < j.n; i++)
		free(j.v[i].data);
	free(j.v);
	free(now);
	free(image);
	free(start);
}

#define OPTS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void every_event(void **state)
{
	run(OPTS("cluster_size", "4096"), 1);
	run(OPTS("cluster_size", "512"), 2);
	run(OPTS("cluster_size", "16k", "extended_l2", "on"), 3);
	run(OPTS("cluster_size", "4096", "refcount_bits", "64"), 4);
	run(OPTS("cluster_size", "1024", "compat", "0.10"), 5);
	run(OPTS("cluster_size", "4096", "preallocation", "metadata"), 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(every_event) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
