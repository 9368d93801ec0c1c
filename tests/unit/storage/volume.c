/* Volumes: a random workload with snapshots of every kind; each point must show, to the byte, what a plain copy taken
 * at its moment shows: while the tree changes around it, with jobs under I/O, after every reopening. */
#include <pthread.h>
#include <sys/stat.h>
#include "unit.h"
#include "base/rand.h"
#include "storage/storage.h"

#define BLOCK  4096
#define BLOCKS 1536U /* 6 MiB */
#define SIZE   ((uint64_t)BLOCK * BLOCKS)
#define POINTS 12

struct model {
	char name[32];
	enum volume_kind kind;
	uint32_t v[BLOCKS]; /* what fills each block; 0: zeroes */
};

static char root[128], dir[160];
static struct volume *vol;
static struct disk *disk;
static struct model now, points[POINTS];
static unsigned int n_points, serial, counter;
static uint8_t buf[BLOCK * 64];

#define OK(call)                                                                     \
	do {                                                                         \
		struct err *e_ = NULL;                                               \
		(void)0;                                                             \
		int r_ = (call);                                                     \
		if (r_ < 0)                                                          \
			fail_msg("%s: %s", #call, e_ ? err_msg(e_) : strerror(-r_)); \
		err_free(e_);                                                        \
	} while (0)

static int setup(void **state)
{
	snprintf(root, sizeof(root), "%s/strata-volume-XXXXXX",
		 getenv("TMPDIR")
			 ?: access("/dev/shm", W_OK) == 0 ? "/dev/shm" /* no waiting for syncs */
							  : "/tmp");
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", root);
	return system(cmd);
}

static void compare(struct disk *d, const struct model *m, const char *what)
{
	assert_int_equal(disk_size(d), SIZE);
	for (unsigned int b = 0; b < BLOCKS; b += 64) {
		OK(disk_pread(d, buf, sizeof(buf), (uint64_t)b * BLOCK));
		for (unsigned int k = 0; k < 64; k++)
			for (unsigned int i = 0; i < BLOCK / 4; i++) {
				uint32_t got = ((uint32_t *)(void *)(buf + k * BLOCK))[i];

				if (got != m->v[b + k])
					fail_msg("%s '%s': block %u word %u: %u, not %u", what,
						 m->name, b + k, i, got, m->v[b + k]);
			}
	}
}

static void work(struct prng *rng, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		unsigned int b = (unsigned int)prng_below(rng, BLOCKS),
			     len = 1 + (unsigned int)prng_below(rng, prng_below(rng, 8) ? 6 : 64);
		unsigned int kind = (unsigned int)prng_below(rng, 10);
		uint32_t value = kind < 8 ? ++counter : 0;

		len = MIN(len, BLOCKS - b);
		for (unsigned int k = 0; k < len; k++)
			now.v[b + k] = value;
		for (unsigned int k = 0; k < len * BLOCK / 4; k++)
			((uint32_t *)(void *)buf)[k] = value;
		if (value)
			OK(disk_pwrite(disk, buf, (size_t)len * BLOCK, (uint64_t)b * BLOCK));
		else
			OK(disk_sync_op(disk, DISK_WRITE_ZEROES, kind == 8 ? DISK_MAY_UNMAP : 0,
					(uint64_t)b * BLOCK, (uint64_t)len * BLOCK));
	}
}

static void wait_job(struct job *j)
{
	struct err *e = NULL;

	if (j && job_wait(j, &e) < 0)
		fail_msg("%s", err_msg(e));
}

static void attach(bool on)
{
	struct err *e = NULL;
	int r = 0;

	if (on && !disk)
		r = volume_attach(vol, NULL, &disk, &e);
	else if (!on && disk)
		disk = NULL, r = volume_detach(vol, &e);
	if (r < 0)
		fail_msg("attach %d: %s", on, err_msg(e));
}

static void reopen(void)
{
	attach(false);
	volume_close(vol);
	OK(volume_open(dir, &vol, &e_));
}

static void check_all(void)
{
	bool on = disk;

	attach(false);
	for (unsigned int i = 0; i < n_points; i++) {
		struct disk *d = NULL;

		OK(volume_open_point(vol, points[i].name, &d, &e_));
		compare(d, &points[i], "point");
		disk_close(d);
	}
	attach(true);
	compare(disk, &now, "current");
	attach(on);
}

static void take(enum volume_kind kind, bool wait)
{
	struct model *m = &points[n_points];
	struct job *j;

	*m = now;
	m->kind = kind;
	snprintf(m->name, sizeof(m->name), "p%u-%s", ++serial, volume_kinds[kind]);
	OK(volume_snapshot(vol, m->name, kind, NULL, &j, &e_));
	n_points++;
	if (wait)
		wait_job(j);
}

static void forget(unsigned int i)
{
	struct job *j;

	OK(volume_delete(vol, points[i].name, &j, &e_));
	points[i] = points[--n_points];
	wait_job(j);
}

/* kinds: which of them, as a mask */
static void tree(unsigned int kinds, const char *format, uint64_t seed, unsigned int steps)
{
	struct volume_create c = { .size = SIZE, .format = format, .max_depth = 6 };
	struct prng rng;

	prng_seed(&rng, seed);
	snprintf(dir, sizeof(dir), "%s/v%u-%s-%llu", root, kinds, format, (unsigned long long)seed);
	memset(&now, 0, sizeof(now));
	strcpy(now.name, "current");
	n_points = 0;
	OK(volume_create(dir, &c, &e_));
	OK(volume_open(dir, &vol, &e_));
	attach(true);
	work(&rng, 60);
	for (unsigned int s = 0; s < steps; s++) {
		unsigned int what = (unsigned int)prng_below(&rng, 12), kind;
		struct job *j = NULL;

		if (what < 4 && n_points < POINTS) {
			do
				kind = (unsigned int)prng_below(&rng, VOLUME_N_KINDS);
			while (!(kinds & 1U << kind));
			attach(prng_below(&rng, 4) != 0);
			take((enum volume_kind)kind, true);
		} else if (what < 6 && n_points > 0) {
			attach(prng_below(&rng, 3) != 0);
			forget((unsigned int)prng_below(&rng, n_points));
		} else if (what == 6 && n_points > 0) {
			unsigned int i = (unsigned int)prng_below(&rng, n_points);

			attach(false);
			OK(volume_restore(vol, points[i].name, &j, &e_));
			wait_job(j);
			memcpy(now.v, points[i].v, sizeof(now.v));
		} else if (what == 7) {
			reopen();
		} else if (what == 8) {
			OK(volume_flatten(vol, &j, &e_));
			wait_job(j);
		} else if (what == 9) {
			OK(volume_compact(vol, &j, &e_));
			wait_job(j);
		}
		attach(true);
		work(&rng, 12);
		if (s % 5 == 4)
			check_all();
	}
	check_all();
	while (n_points > 0) {
		forget((unsigned int)prng_below(&rng, n_points));
		if (n_points % 3 == 0)
			check_all();
	}
	reopen();
	check_all();
	attach(false);
	volume_close(vol);
	vol = NULL;
}

static void rows(void **state)
{
	tree(1U << VOLUME_ROW, "qcow2", 1, 60);
	tree(1U << VOLUME_ROW, "raw", 2, 40);
}

static void cows(void **state)
{
	tree(1U << VOLUME_COW, "raw", 3, 60);
	tree(1U << VOLUME_COW, "qcow2", 4, 40);
}

static void fulls(void **state)
{
	tree(1U << VOLUME_FULL, "qcow2", 5, 30);
}

static void all_kinds(void **state)
{
	uint64_t end = getenv("STRATA_LONG") ? 106 : 8;

	for (uint64_t seed = 6; seed < end; seed++)
		tree(1U << VOLUME_ROW | 1U << VOLUME_COW | 1U << VOLUME_FULL, "qcow2", seed, 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows),
		cmocka_unit_test(cows),
		cmocka_unit_test(fulls),
		cmocka_unit_test(all_kinds),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
