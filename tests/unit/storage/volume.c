/* Volumes: a random workload with snapshots of every kind; each point must show, to the byte, what a plain copy taken
 * at its moment shows: while the tree changes around it, with jobs under I/O, after every reopening. */
#include <pthread.h>
#include <sys/stat.h>
#include "unit.h"
#include "base/rand.h"
#include "base/loop.h"
#include "storage/volume/volume_int.h"

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

/* ---- beside I/O ---- */

/* Writers own every second block and keep several writes of growing values in flight.  A point must hold, in each block,
 * something between what had completed before it was asked for and what had been submitted when it was there. */
#define DEPTH 12

static uint32_t completed[BLOCKS], submitted[BLOCKS];
static bool in_flight[BLOCKS], halt;
static unsigned long long written;

struct writer {
	pthread_t thread;
	unsigned int id;
	struct disk_queue *q;
	struct prng rng;
	struct slot {
		struct writer *w;
		struct disk_io io;
		struct iovec iov;
		unsigned int block;
		uint32_t buf[BLOCK / 4];
	} slots[DEPTH];
};

static void slot_done(struct disk_io *io, int r);

static void slot_go(struct slot *s)
{
	uint32_t value;

	do
		s->block = (unsigned int)prng_below(&s->w->rng, BLOCKS / 2) * 2 + s->w->id;
	while (in_flight[s->block]);
	in_flight[s->block] = true;
	value = submitted[s->block] + 1;
	for (unsigned int i = 0; i < BLOCK / 4; i++)
		s->buf[i] = value;
	__atomic_store_n(&submitted[s->block], value, __ATOMIC_SEQ_CST);
	s->iov = (struct iovec){ s->buf, BLOCK };
	s->io = (struct disk_io){ .op = DISK_WRITE,
				  .off = (uint64_t)s->block * BLOCK,
				  .len = BLOCK,
				  .iov = &s->iov,
				  .niov = 1,
				  .done = slot_done,
				  .data = s };
	disk_submit(s->w->q, &s->io);
}

static void slot_done(struct disk_io *io, int r)
{
	struct slot *s = io->data;

	if (r < 0) {
		fprintf(stderr, "write: %s\n", strerror(-r));
		abort();
	}
	__atomic_store_n(&completed[s->block], s->buf[0], __ATOMIC_SEQ_CST);
	in_flight[s->block] = false;
	__atomic_fetch_add(&written, 1, __ATOMIC_RELAXED);
	if (!__atomic_load_n(&halt, __ATOMIC_RELAXED))
		slot_go(s);
}

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	struct loop *loop = NULL;

	if (loop_new(NULL, &loop) < 0 || disk_queue_open(disk, loop, &w->q, NULL) < 0)
		abort();
	for (int i = 0; i < DEPTH; i++) {
		w->slots[i].w = w;
		slot_go(&w->slots[i]);
	}
	while (disk_inflight(w->q))
		loop_once(loop, 100 * NSEC_PER_MSEC);
	disk_queue_close(w->q);
	loop_free(loop);
	return NULL;
}

struct span {
	char name[32];
	uint32_t lo[BLOCKS], hi[BLOCKS];
};
static struct span spans[POINTS];
static unsigned int n_spans;
static struct writer writers[2];

static void writers_go(uint64_t seed)
{
	halt = false;
	for (unsigned int i = 0; i < 2; i++) {
		writers[i].id = i;
		prng_seed(&writers[i].rng, seed + i);
		assert_int_equal(pthread_create(&writers[i].thread, NULL, writer_main, &writers[i]),
				 0);
	}
}

static void writers_stop(void)
{
	__atomic_store_n(&halt, true, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(writers[i].thread, NULL);
}

/* What it shows is fixed from now on. */
static void compare_span(struct disk *d, struct span *p)
{
	for (unsigned int b = 0; b < BLOCKS; b++) {
		uint32_t *w = (uint32_t *)(void *)buf;

		OK(disk_pread(d, buf, BLOCK, (uint64_t)b * BLOCK));
		for (unsigned int i = 1; i < BLOCK / 4; i++)
			if (w[i] != w[0])
				fail_msg("'%s': block %u is torn", p->name, b);
		if (w[0] < p->lo[b] || w[0] > p->hi[b])
			fail_msg("'%s': block %u: %u, not %u to %u", p->name, b, w[0], p->lo[b],
				 p->hi[b]);
		p->lo[b] = p->hi[b] = w[0];
	}
}

static void take_span(enum volume_kind kind)
{
	struct span *p = &spans[n_spans++];
	struct job *j;

	snprintf(p->name, sizeof(p->name), "s%u-%s", ++serial, volume_kinds[kind]);
	for (unsigned int b = 0; b < BLOCKS; b++)
		p->lo[b] = __atomic_load_n(&completed[b], __ATOMIC_SEQ_CST);
	OK(volume_snapshot(vol, p->name, kind, NULL, &j, &e_));
	for (unsigned int b = 0; b < BLOCKS; b++)
		p->hi[b] = __atomic_load_n(&submitted[b], __ATOMIC_SEQ_CST);
	wait_job(j);
}

static void busy(void **state)
{
	struct volume_create c = { .size = SIZE, .max_depth = 6 };
	unsigned int rounds = getenv("STRATA_LONG") ? 40 : 4;
	struct prng rng;
	struct span last = { .name = "current" };

	prng_seed(&rng, 99);
	snprintf(dir, sizeof(dir), "%s/busy", root);
	OK(volume_create(dir, &c, &e_));
	OK(volume_open(dir, &vol, &e_));
	for (unsigned int round = 0; round < rounds; round++) {
		unsigned int steps = 12;

		vol->small = round % 2 ? 32 * MIB : 256 * KIB; /* by helper, by final */
		attach(true);
		writers_go(round * 2);
		while (steps-- > 0) {
			unsigned int what = (unsigned int)prng_below(&rng, 8);
			unsigned long long until = __atomic_load_n(&written, __ATOMIC_RELAXED) + 60;
			struct extent_list l;
			struct job *j = NULL;

			if (what < 4 && n_spans < POINTS) {
				take_span((enum volume_kind)prng_below(&rng, 3));
			} else if (what < 6 && n_spans > 0) {
				unsigned int i = (unsigned int)prng_below(&rng, n_spans);

				OK(volume_delete(vol, spans[i].name, &j, &e_));
				spans[i] = spans[--n_spans];
				wait_job(j);
			} else if (what == 6) {
				OK(volume_flatten(vol, &j, &e_));
				wait_job(j);
			} else {
				OK(disk_extents(disk, 0, SIZE, &l));
				extent_list_done(&l);
			}
			while (__atomic_load_n(&written, __ATOMIC_RELAXED) < until)
				usleep(500);
		}
		writers_stop();
		for (unsigned int b = 0; b < BLOCKS; b++) {
			assert_int_equal(completed[b], submitted[b]);
			last.lo[b] = last.hi[b] = completed[b];
		}
		compare_span(disk, &last);
		attach(false);
		for (unsigned int i = 0; i < n_spans; i++) {
			struct disk *d = NULL;

			OK(volume_open_point(vol, spans[i].name, &d, &e_));
			compare_span(d, &spans[i]);
			disk_close(d);
		}
		reopen();
	}
	attach(true);
	compare_span(disk, &last);
	attach(false);
	volume_close(vol);
	vol = NULL;
}

/* Cancelled and throttled jobs leave everything readable; a closed volume goes on later. */
static void stopped(void **state)
{
	struct volume_create c = { .size = SIZE };
	struct job *j = NULL;
	struct disk *d = NULL;
	struct job_info i;
	struct err *e = NULL;
	struct prng rng;

	prng_seed(&rng, 5);
	snprintf(dir, sizeof(dir), "%s/stopped", root);
	memset(&now, 0, sizeof(now));
	n_points = 0;
	OK(volume_create(dir, &c, &e_));
	OK(volume_open(dir, &vol, &e_));
	attach(true);
	work(&rng, 300);
	take(VOLUME_ROW, true);
	work(&rng, 300);
	take(VOLUME_ROW, true);
	work(&rng, 300);
	volume_set_rate(vol, 1000); /* before it starts, so that it cannot have ended */
	OK(volume_flatten(vol, &j, &e_));
	assert_int_equal(volume_delete(vol, points[0].name, &j, &e), -EBUSY);
	assert_string_equal(err_id(e), "volume.busy");
	err_clear(&e);
	j = volume_job(vol);
	do
		job_info(j, &i);
	while (i.done == 0 && i.state == JOB_RUNNING);
	assert_int_equal(i.state, JOB_RUNNING);
	assert_string_equal(i.type, "flatten");
	assert_int_equal(i.rate, 1000);
	reopen(); /* cancels it, to be resumed */
	check_all();
	attach(false);
	volume_set_rate(vol, 1000);
	OK(volume_resume(vol, &j, &e_));
	assert_non_null(j);
	job_cancel(j); /* for good */
	assert_int_equal(job_wait(j, &e), -ECANCELED);
	err_clear(&e);
	check_all();
	attach(false);
	OK(volume_resume(vol, &j, &e_));
	assert_null(j);
	/* a full copy that is cancelled is no point */
	attach(true);
	OK(volume_snapshot(vol, "never", VOLUME_FULL, NULL, &j, &e_));
	job_cancel(j);
	assert_int_equal(job_wait(j, &e), -ECANCELED);
	err_clear(&e);
	assert_int_equal(volume_open_point(vol, "never", &d, &e), -ENOENT);
	err_clear(&e);
	work(&rng, 50);
	check_all();
	attach(false);
	volume_close(vol);
	vol = NULL;
}

static void clones(void **state)
{
	struct volume_create c = { .size = SIZE };
	struct volume *base, *twin = NULL;
	char base_dir[160], at[160], at2[160];
	struct model was;
	struct job *j = NULL;
	struct disk *d = NULL;
	struct err *e = NULL;
	struct prng rng;

	prng_seed(&rng, 6);
	snprintf(dir, sizeof(dir), "%s/base", root);
	snprintf(at, sizeof(at), "%s/linked", root);
	snprintf(at2, sizeof(at2), "%s/full", root);
	memset(&now, 0, sizeof(now));
	n_points = 0;
	OK(volume_create(dir, &c, &e_));
	OK(volume_open(dir, &vol, &e_));
	attach(true);
	work(&rng, 300);
	take(VOLUME_ROW, true);
	work(&rng, 100);
	OK(volume_clone(vol, points[0].name, at, false, &j, &e_));
	assert_null(j);
	OK(volume_clone(vol, points[0].name, at2, true, &j, &e_));
	wait_job(j);
	assert_int_equal(volume_delete(vol, points[0].name, &j, &e), -EBUSY);
	assert_string_equal(err_id(e), "volume.protected");
	assert_non_null(strstr(err_msg(e), at));
	err_clear(&e);
	assert_int_equal(volume_open(dir, &twin, &e), -EAGAIN);
	assert_string_equal(err_id(e), "volume.locked");
	err_clear(&e);
	check_all();
	attach(false);

	base = vol;
	memcpy(base_dir, dir, sizeof(dir));
	was = now;
	now = points[0];
	n_points = 0;
	memcpy(dir, at2, sizeof(dir));
	OK(volume_open(at2, &vol, &e_));
	check_all();
	volume_close(vol);
	memcpy(dir, at, sizeof(dir));
	OK(volume_open(at, &vol, &e_));
	check_all();
	attach(true);
	work(&rng, 100);
	take(VOLUME_COW, true);
	work(&rng, 50);
	OK(volume_promote(vol, &j, &e_));
	assert_non_null(j);
	work(&rng, 100); /* beside it */
	wait_job(j);
	check_all();
	attach(false);
	reopen();
	check_all();
	attach(false);
	volume_close(vol);
	vol = base;
	memcpy(dir, base_dir, sizeof(dir));
	now = was;
	n_points = 0;
	attach(true);
	compare(disk, &now, "base");
	attach(false);
	volume_close(vol);
	vol = NULL;
	OK(volume_remove(base_dir, &e_));
	OK(volume_open(at, &vol, &e_));
	memcpy(dir, at, sizeof(dir));
	OK(volume_attach(vol, NULL, &d, &e_));
	disk = d;
	attach(false);
	volume_close(vol);
	vol = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows),	     cmocka_unit_test(cows), cmocka_unit_test(fulls),
		cmocka_unit_test(all_kinds), cmocka_unit_test(busy), cmocka_unit_test(stopped),
		cmocka_unit_test(clones),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
