/* The graph: memory and file drivers under raw, on both I/O engines, with one queue and with several threads. */
#include "unit.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include "base/loop.h"
#include "base/rand.h"
#include "storage/storage.h"

static char *scratch(void)
{
	static char path[64];
	int fd;

	strcpy(path, "/tmp/strata-unit-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	return path;
}

static void model_run(struct disk *d, uint64_t size, int rounds)
{
	struct prng rng;
	uint8_t *model = calloc(1, size), *buf = malloc(size);

	prng_seed(&rng, 7);
	for (int i = 0; i < rounds; i++) {
		uint64_t off = prng_below(&rng, size),
			 len = 1 + prng_below(&rng, MIN(size - off, (uint64_t)70000));

		switch (prng_below(&rng, 5)) {
		case 0:
		case 1:
			memset(buf, (int)prng_next(&rng), len);
			assert_int_equal(disk_pwrite(d, buf, len, off), 0);
			memcpy(model + off, buf, len);
			break;
		case 2:
			assert_int_equal(
				disk_sync_op(d, DISK_WRITE_ZEROES,
					     (unsigned int)prng_below(&rng, 2) * DISK_MAY_UNMAP,
					     off, len),
				0);
			memset(model + off, 0, len);
			break;
		case 3:
			assert_int_equal(disk_flush(d), 0);
			break;
		default:
			assert_int_equal(disk_pread(d, buf, len, off), 0);
			assert_memory_equal(buf, model + off, len);
		}
	}
	assert_int_equal(disk_pread(d, buf, size, 0), 0);
	assert_memory_equal(buf, model, size);
	free(model);
	free(buf);
}

static void mem_equals_a_model(void **state)
{
	struct disk_cfg cfg = { .driver = "mem", .format = "raw", .mem_size = 1 << 20 };
	struct disk *d = NULL;

	assert_int_equal(disk_open(&cfg, &d, NULL), 0);
	assert_int_equal(disk_size(d), 1 << 20);
	model_run(d, 1 << 20, 2000);
	disk_close(d);
}

static void file_equals_a_model(void **state)
{
	for (int engine = 0; engine < 2; engine++) {
		struct disk_cfg cfg = { .path = scratch(), .format = "raw" };
		struct disk_create c = { .format = "raw", .path = cfg.path, .size = 1 << 20 };
		struct disk *d = NULL;

		setenv("STRATA_AIO", engine ? "threads" : "auto", 1);
		assert_int_equal(disk_create(&c, NULL), 0);
		assert_int_equal(disk_open(&cfg, &d, NULL), 0);
		model_run(d, 1 << 20, 500);
		assert_int_equal(disk_close(d), 0);
		unlink(cfg.path);
	}
	unsetenv("STRATA_AIO");
}

static void *read_it(void *arg)
{
	char b[4096];

	for (int i = 0; i < 20; i++)
		assert_int_equal(disk_pread(arg, b, sizeof(b), 4096 * (uint64_t)i), 0);
	return NULL;
}

/* Blocking calls are for any thread, one at a time. */
static void blocking_calls_from_other_threads(void **state)
{
	struct disk_cfg cfg = { .path = scratch(), .format = "raw" };
	struct disk *d = NULL;
	pthread_t t;

	assert_int_equal(truncate(cfg.path, 1 << 20), 0);
	assert_int_equal(disk_open(&cfg, &d, NULL), 0);
	read_it(d);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pthread_create(&t, NULL, read_it, d), 0);
		assert_int_equal(pthread_join(t, NULL), 0);
	}
	read_it(d);
	assert_int_equal(disk_close(d), 0);
	unlink(cfg.path);
}

static void refuses_what_lies_outside(void **state)
{
	struct disk_cfg cfg = { .driver = "mem", .format = "raw", .mem_size = 4096 };
	struct disk *d = NULL;
	char b[512];

	assert_int_equal(disk_open(&cfg, &d, NULL), 0);
	assert_int_equal(disk_pread(d, b, 512, 4096), -EINVAL);
	assert_int_equal(disk_pread(d, b, 512, UINT64_MAX - 100), -EINVAL);
	assert_int_equal(disk_pwrite(d, b, 512, 3800), -EINVAL);
	assert_int_equal(disk_sync_op(d, DISK_DISCARD, 0, 0, 1 << 20), -EINVAL);
	disk_close(d);
	cfg.readonly = true;
	assert_int_equal(disk_open(&cfg, &d, NULL), 0);
	assert_int_equal(disk_pwrite(d, b, 512, 0), -EROFS);
	assert_int_equal(disk_pread(d, b, 512, 0), 0);
	disk_close(d);
}

static void a_probed_raw_image_keeps_its_head(void **state)
{
	struct disk_cfg cfg = { .path = scratch() };
	struct disk *d = NULL;
	char b[4096] = "QFI\xfb\0\0\0\1";

	assert_int_equal(truncate(cfg.path, 1 << 20), 0);
	assert_int_equal(disk_open(&cfg, &d, NULL), 0);
	assert_string_equal(disk_format(d), "raw");
	assert_int_equal(disk_pwrite(d, b, sizeof(b), 0), -EPERM);
	/* in two pieces */
	assert_int_equal(disk_pwrite(d, b, 4, 0), 0);
	assert_int_equal(disk_pwrite(d, b + 4, 4, 4), -EPERM);
	assert_int_equal(disk_pwrite(d, b + 1, 4, 4), 0); /* no version of qcow */
	disk_close(d);
	unlink(cfg.path);
}

static void a_second_writer_is_refused(void **state)
{
	struct disk_cfg cfg = { .path = scratch(), .format = "raw" };
	struct disk *d = NULL, *d2 = NULL;
	struct err *e = NULL;
	char pid[32];

	assert_int_equal(disk_open(&cfg, &d, NULL), 0);
	assert_int_equal(disk_open(&cfg, &d2, &e), -EAGAIN);
	assert_string_equal(err_id(e), "disk.locked");
	snprintf(pid, sizeof(pid), "pid %d", getpid());
	assert_non_null(strstr(err_msg(e), pid));
	err_clear(&e);
	cfg.readonly = true;
	assert_int_equal(disk_open(&cfg, &d2, NULL), -EAGAIN);
	cfg.no_lock = true;
	assert_int_equal(disk_open(&cfg, &d2, NULL), 0);
	disk_close(d2);
	disk_close(d);
	cfg.no_lock = false;
	assert_int_equal(disk_open(&cfg, &d, NULL), 0);
	assert_int_equal(disk_open(&cfg, &d2, NULL), 0); /* two readers */
	disk_close(d2);
	disk_close(d);
	unlink(cfg.path);
}

static void grows_and_shrinks(void **state)
{
	struct disk_cfg cfg = { .path = scratch(), .format = "raw" };
	struct disk *d = NULL;
	uint64_t alloc, size;
	char b[16];

	assert_int_equal(disk_open(&cfg, &d, NULL), 0);
	assert_int_equal(disk_resize(d, 1 << 20, DISK_THIN, false, NULL), 0);
	assert_int_equal(disk_size(d), 1 << 20);
	assert_int_equal(disk_pread(d, b, 16, (1 << 20) - 16), 0);
	assert_int_equal(disk_usage(d, &alloc, &size), 0);
	assert_int_equal(alloc, 0);
	assert_int_equal(disk_resize(d, 2 << 20, DISK_EAGER, false, NULL), 0);
	assert_int_equal(disk_usage(d, &alloc, &size), 0);
	assert_int_equal(alloc, 1 << 20);
	assert_int_equal(disk_resize(d, 4096, DISK_THIN, false, NULL), -EINVAL);
	assert_int_equal(disk_resize(d, 4096, DISK_THIN, true, NULL), 0);
	assert_int_equal(disk_size(d), 4096);
	disk_close(d);
	unlink(cfg.path);
}

/* ---- queues on loops ---- */

struct job {
	struct disk *d;
	struct loop *loop;
	struct disk_queue *q;
	uint64_t base, size;
	unsigned int left, active;
	struct {
		struct disk_io io;
		struct iovec iov;
		uint8_t buf[4096];
		bool check;
	} slot[16];
	struct prng rng;
	uint8_t fill[64];
	bool inside_submit;
};

static void job_next(struct job *j, int i)
{
	uint64_t n = prng_below(&j->rng, 64);

	memset(&j->slot[i].io, 0, sizeof(j->slot[i].io));
	j->slot[i].iov = (struct iovec){ j->slot[i].buf, 4096 };
	j->slot[i].io.off = j->base + n * 4096;
	j->slot[i].io.len = 4096;
	j->slot[i].io.iov = &j->slot[i].iov;
	j->slot[i].io.niov = 1;
	j->slot[i].io.op = i == 0 ? DISK_WRITE : i == 1 ? DISK_FLUSH : DISK_READ;
	if (i == 1)
		j->slot[i].io.off = j->slot[i].io.len = 0;
	if (i == 0)
		memset(j->slot[i].buf, ++j->fill[n], 4096);
	j->slot[i].io.data = j;
	j->left--;
	j->active++;
	j->inside_submit = true;
	disk_submit(j->q, &j->slot[i].io);
	j->inside_submit = false;
}

static void job_done(struct disk_io *io, int r)
{
	struct job *j = io->data;
	int i = (int)(((char *)io - (char *)j->slot) / (ptrdiff_t)sizeof(j->slot[0]));

	assert_int_equal(r, 0);
	assert_false(j->inside_submit);
	j->active--;
	if (j->left > 0) {
		job_next(j, i);
		j->slot[i].io.done = job_done;
	} else if (j->active == 0) {
		loop_stop(j->loop, 0);
	}
}

static void *job_run(void *arg)
{
	struct job *j = arg;

	assert_int_equal(loop_new(NULL, &j->loop), 0);
	assert_int_equal(disk_queue_open(j->d, j->loop, &j->q, NULL), 0);
	disk_plug(j->q);
	for (int i = 0; i < 16; i++) {
		job_next(j, i);
		j->slot[i].io.done = job_done;
	}
	disk_unplug(j->q);
	assert_int_equal(loop_run(j->loop), 0);
	assert_int_equal(disk_inflight(j->q), 0);
	disk_queue_close(j->q);
	loop_free(j->loop);
	return NULL;
}

static void four_queues_beside_resizes(void **state)
{
	struct disk_cfg cfg = { .path = scratch(), .format = "raw" };
	static struct job jobs[4];
	pthread_t t[4];
	struct disk_stats st;
	struct disk *d = NULL;

	for (int engine = 0; engine < 2; engine++) {
		setenv("STRATA_AIO", engine ? "threads" : "auto", 1);
		assert_int_equal(disk_open(&cfg, &d, NULL), 0);
		assert_int_equal(disk_resize(d, 4 << 20, DISK_THIN, true, NULL), 0);
		for (int i = 0; i < 4; i++) {
			memset(&jobs[i], 0, sizeof(jobs[i]));
			jobs[i].d = d;
			jobs[i].base = (uint64_t)i << 20;
			jobs[i].left = 3000;
			prng_seed(&jobs[i].rng, (uint64_t)i);
			assert_int_equal(pthread_create(&t[i], NULL, job_run, &jobs[i]), 0);
		}
		for (uint64_t i = 0; i < 200; i++)
			assert_int_equal(disk_resize(d, (4 << 20) + i * 512, DISK_THIN, true, NULL),
					 0);
		for (int i = 0; i < 4; i++)
			pthread_join(t[i], NULL);
		disk_stats(d, &st);
		assert_int_equal(st.ops[DISK_READ] + st.ops[DISK_WRITE] + st.ops[DISK_FLUSH],
				 12000);
		assert_int_equal(disk_close(d), 0);
	}
	unsetenv("STRATA_AIO");
	unlink(cfg.path);
}

static void extents_of_a_sparse_file(void **state)
{
	struct disk_cfg cfg = { .path = scratch(), .format = "raw" };
	struct extent_list l;
	struct disk *d = NULL;
	static char b[65536] = "x";

	assert_int_equal(disk_open(&cfg, &d, NULL), 0);
	assert_int_equal(disk_resize(d, 1 << 20, DISK_THIN, false, NULL), 0);
	assert_int_equal(disk_pwrite(d, b, sizeof(b), 262144), 0);
	assert_int_equal(disk_extents(d, 0, 1 << 20, &l), 0);
	assert_int_equal(l.n, 3);
	assert_int_equal(l.v[1].off, 262144);
	assert_int_equal(l.v[1].len, 65536);
	assert_true(l.v[1].flags & EXTENT_DATA);
	assert_true(l.v[2].flags & EXTENT_ZERO);
	extent_list_done(&l);
	disk_close(d);
	unlink(cfg.path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mem_equals_a_model),
		cmocka_unit_test(file_equals_a_model),
		cmocka_unit_test(blocking_calls_from_other_threads),
		cmocka_unit_test(refuses_what_lies_outside),
		cmocka_unit_test(a_probed_raw_image_keeps_its_head),
		cmocka_unit_test(a_second_writer_is_refused),
		cmocka_unit_test(grows_and_shrinks),
		cmocka_unit_test(four_queues_beside_resizes),
		cmocka_unit_test(extents_of_a_sparse_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
